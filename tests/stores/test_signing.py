"""What a person does about signatures: only what was shown is signed, only what was signed is put back."""

import pytest

from learngate.stores import ConfigurationError, ProposalDraft, open_memory
from learngate.stores.audit import Key, Ledger
from learngate.stores.signing import everything, mend, mendable, restart, sign, unsigned
from tests.stores.support import Hashed
from tests.stores.tampering import BONDS, ETFS, KEY, OTHER, faults, recalled, stock, tamper


@pytest.fixture
def head(tmp_path, monkeypatch):
    path = tmp_path / "head"
    monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(path))
    return path


@pytest.fixture
def keyless(url, head):
    """A memory that has learned before there was a key."""
    with open_memory(url, embedder=Hashed()) as opened:
        stock(opened)
        yield opened


@pytest.fixture
def memory(url, head):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as opened:
        stock(opened)
        yield opened


def test_what_is_from_before_the_key_is_shown_and_signed_in_its_order(keyless, url):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        shown = unsigned(memory.ledger)
        assert [one.says for one in shown][:2] == [
            "decision 1: approve by rita",
            f"learning 1, revision 1 (active, default): ETFs: {ETFS}",
        ]
        assert len(shown) == 11
        assert sign(memory.ledger, shown) == 11
        assert (faults(memory), recalled(memory), unsigned(memory.ledger)) == ({}, {1, 2}, [])
        memory.learnings.retire(1, actor="rita")
        assert faults(memory) == {}


def test_only_what_was_shown_is_signed(keyless, url):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        shown = unsigned(memory.ledger)
        tamper(memory, "UPDATE revisions SET insight = 'Buy mine.' WHERE learning_id = 2")
        tamper(memory, "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 2")
        keyless.learnings.add(ProposalDraft("Late", "Compare late funds."), namespace="default", actor="eve")
        sign(memory.ledger, shown)
        assert recalled(memory) == {1}
        assert {"revision 1 of learning 2", "revision 1 of learning 4", "decision 7"} <= faults(memory).keys()


def test_without_a_key_nothing_is_signed(keyless):
    with pytest.raises(ConfigurationError, match="learngate audit init"):
        unsigned(keyless.ledger)


def test_a_lost_key_is_replaced_by_signing_everything_anew(memory, url):
    with open_memory(url, embedder=Hashed(), audit_key=OTHER) as other:
        assert restart(other.ledger, everything(other.ledger)) == 11
        assert (faults(other), recalled(other)) == ({}, {1, 2})
        other.learnings.retire(2, actor="rita")
        assert other.ledger.head.read().seq == 13
        assert faults(other) == {}
    assert list(faults(memory)) == ["key"]


def test_damage_that_is_accepted_is_no_alarm_any_more(memory):
    tamper(memory, "DELETE FROM decisions WHERE id = 6", "DELETE FROM ledger WHERE seq IN (3, 11)")
    assert len(faults(memory)) > 1
    restart(memory.ledger, everything(memory.ledger))
    assert faults(memory) == {}


def test_a_restart_does_not_accept_a_learning_that_is_not_its_revision(memory):
    tamper(memory, "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 1")
    restart(memory.ledger, everything(memory.ledger))
    assert faults(memory).keys() == {"learning 1"}
    mend(memory.ledger, mendable(memory.ledger))
    assert faults(memory) == {}
    assert memory.learnings.get(1).insight == ETFS


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE learnings SET insight = 'Buy mine.', body = 'mine', scope = 'x', digest = 'x' WHERE id = 2",
        "UPDATE learnings SET namespace = 'mine', created_at = updated_at WHERE id = 2",
        "UPDATE learnings SET status = 'retired' WHERE id = 2",
        "UPDATE learnings SET revision = 4 WHERE id = 2",
        "DELETE FROM learnings WHERE id = 2",
    ],
)
def test_what_was_signed_is_put_back(memory, change):
    before = memory.learnings.get(2)
    assert recalled(memory) == {1, 2}
    tamper(memory, change)
    assert recalled(memory) == {1}
    (shown,) = mendable(memory.ledger)
    assert (shown.learning_id, shown.fate, shown.version) == (2, "put back", 1)
    assert mend(memory.ledger, [shown]) == 1
    assert memory.learnings.get(2) == before
    assert (faults(memory), recalled(memory), mendable(memory.ledger)) == ({}, {1, 2}, [])
    assert memory.learnings.edit(2, title="Go on", actor="rita").revision == 2


def test_what_nobody_decided_is_removed(memory):
    names = (
        "title, insight, applies_when, status, revision, digest, created_at, updated_at, proposal_id, scope, body"
    )
    tamper(
        memory,
        f"INSERT INTO learnings (id, uid, namespace, {names}) SELECT 77, 'u', namespace, {names}"
        " FROM learnings WHERE id = 2",
    )
    (shown,) = mendable(memory.ledger)
    assert (shown.learning_id, shown.fate, shown.says) == (77, "removed", f"Bonds: {BONDS}")
    mend(memory.ledger, [shown])
    assert faults(memory) == {}
    assert {one.id for one in memory.learnings.list(namespace="default", status=None)} == {1, 2, 3}


def test_what_was_not_shown_is_not_touched(memory):
    tamper(memory, "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 1")
    shown = mendable(memory.ledger)
    tamper(memory, "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 2")
    assert mend(memory.ledger, shown) == 1
    assert faults(memory).keys() == {"learning 2"}


def test_a_revision_that_was_changed_itself_is_not_put_back(memory):
    tamper(memory, "UPDATE revisions SET insight = 'Buy mine.' WHERE learning_id = 2")
    assert (mendable(memory.ledger), recalled(memory)) == ([], {1, 2})
    tamper(memory, "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 2")
    assert (mendable(memory.ledger), recalled(memory)) == ([], {1})


def test_unsigned_learnings_are_not_removed_by_mending(keyless):
    book = Ledger(keyless.database, Key(KEY.encode(), "test"), None)
    assert mendable(book) == []
