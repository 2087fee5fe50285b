"""What a person does about signatures: only what was shown is signed, only what was signed is put back."""

import io
import subprocess
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from learngate.stores import ConfigurationError, Conflict, ProposalDraft, open_memory
from learngate.stores.audit import Key, Ledger
from learngate.stores.head import START, Head
from learngate.stores.signing import begin_head, everything, mend, mendable, restart, sign, unsigned
from learngate.stores.verify import MEND, all_faults
from tests.stores.support import Hashed
from tests.stores.tampering import BONDS, ETFS, KEY, OTHER, columns, faults, recalled, stock, tamper


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


def test_a_row_that_cannot_be_read_is_put_back_and_does_not_keep_others_from_it(tmp_path):
    with open_memory(f"sqlite:///{tmp_path}/l.db", embedder=Hashed(), audit_key=KEY) as memory:
        stock(memory)
        before = memory.learnings.get(1)
        tamper(memory, "UPDATE learnings SET title = CAST(x'ff' AS TEXT) WHERE id = 1")
        tamper(memory, "UPDATE learnings SET title = 'Mine' WHERE id = 2")
        assert {fault.todo for fault in all_faults(memory.ledger)} == {MEND}
        assert mend(memory.ledger, mendable(memory.ledger)) == 2
        assert (memory.learnings.get(1), faults(memory)) == (before, {})


def uids(memory):
    with memory.database.read() as connection:
        return dict(connection.exec_driver_sql("SELECT id, uid FROM learnings ORDER BY id").all())


@pytest.mark.parametrize(
    "changes",
    [
        ["DELETE FROM learnings WHERE id = 2"],
        ["UPDATE learnings SET uid = 'u' WHERE id = 2"],
        [
            "UPDATE learnings SET uid = 'u' WHERE id = 1",
            "UPDATE learnings SET uid = (SELECT uid FROM revisions WHERE learning_id = 1 AND revision = 1)"
            " WHERE id = 2",
            "UPDATE learnings SET uid = (SELECT uid FROM revisions WHERE learning_id = 2) WHERE id = 1",
        ],
    ],
    ids=["deleted", "changed", "swapped"],
)
def test_what_is_put_back_keeps_its_uid_so_that_its_export_is_known_again(memory, changes):
    before, exported = uids(memory), b"".join(memory.export())
    tamper(memory, *changes)
    assert "learning 2" in faults(memory)
    mend(memory.ledger, mendable(memory.ledger))
    assert (uids(memory), faults(memory)) == (before, {})
    assert memory.load(io.BytesIO(exported), actor="rita").new == {}


def test_a_uid_that_an_inserted_row_has_taken_is_put_back(memory):
    names = columns(memory, "learnings")
    thief = ", ".join("77" if name == "id" else "'u'" if name == "uid" else name for name in names)
    before = uids(memory)
    tamper(memory, f"INSERT INTO learnings ({', '.join(names)}) SELECT {thief} FROM learnings WHERE id = 2")
    tamper(memory, "DELETE FROM learnings WHERE id = 2")
    tamper(
        memory,
        "UPDATE learnings SET uid = (SELECT uid FROM revisions WHERE learning_id = 2) WHERE id = 77",
    )
    assert mend(memory.ledger, mendable(memory.ledger)) == 2
    assert (uids(memory), faults(memory)) == (before, {})


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


# -- a head file that cannot be written ----------------------------------------------------------------------


def ledger_of(memory):
    with memory.database.read() as connection:
        return connection.exec_driver_sql("SELECT seq, mac FROM ledger ORDER BY seq").all()


def block(head):
    """Put a folder where the head file is: neither written to nor replaced, by nobody."""
    head.unlink(missing_ok=True)
    (head / "in the way").mkdir(parents=True)


@contextmanager
def attribute(path, letter):
    """Protect a file or a folder as `chattr` does, from root, too."""
    if subprocess.run(["chattr", f"+{letter}", str(path)], check=False, capture_output=True).returncode:
        pytest.skip(f"chattr +{letter} does not work here")
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{letter}", str(path)], check=True)


@contextmanager
def blocked(head, way):
    if way == "a folder in its place":
        block(head)
        yield
    elif way == "no folder":
        head.unlink(missing_ok=True)
        head.parent.rmdir()
        yield
    else:
        letter = "i" if way.startswith("an immutable") else "a"
        with attribute(head if way.endswith("file") else head.parent, letter):
            yield


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """A head file in a folder of its own."""
    path = tmp_path / "apart" / "head"
    path.parent.mkdir()
    monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(path))
    return path


RESTARTS = ["an append-only file", "an immutable file", "an append-only folder", "an immutable folder"]


@pytest.mark.parametrize("way", ["a folder in its place", "no folder", *RESTARTS])
def test_a_restart_whose_head_cannot_be_replaced_changes_nothing(url, apart, way):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        stock(memory)
        before = ledger_of(memory)
        with open_memory(url, embedder=Hashed(), audit_key=OTHER) as other:
            shown = everything(other.ledger)
            with (
                blocked(apart, way),
                pytest.raises(ConfigurationError, match=r"nothing was changed .*LEARNGATE_AUDIT_HEAD") as raised,
            ):
                restart(other.ledger, shown)
            assert str(apart) in str(raised.value)
        assert ledger_of(memory) == before
        # Where nothing can be deleted the try stays, too.
        assert way == "an append-only folder" or not apart.with_name("head.new").exists()


@pytest.mark.parametrize("way", ["a folder in its place", "no folder", "an immutable folder"])
def test_signing_for_a_head_that_cannot_be_made_changes_nothing(url, apart, way):
    with open_memory(url, embedder=Hashed()) as keyless:
        stock(keyless)
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        shown = unsigned(memory.ledger)
        with blocked(apart, way), pytest.raises(ConfigurationError, match="nothing was changed"):
            sign(memory.ledger, shown)
        assert ledger_of(memory) == []


@pytest.mark.parametrize("act", ["sign", "restart"])
def test_a_head_that_fails_at_the_last_moment_is_completed_by_a_rerun(keyless, url, head, act):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        book = memory.ledger
        look, do = (unsigned, sign) if act == "sign" else (everything, restart)
        shown = look(book)
        event.listen(memory.database._engine, "commit", lambda _: block(head), once=True)
        with pytest.raises(ConfigurationError, match=f"is signed: then run `learngate audit {act}` again"):
            do(book, shown)
        assert (len(ledger_of(memory)), head.is_dir()) == (11, True)
        (head / "in the way").rmdir()
        head.rmdir()
        if act == "sign":
            head.write_text(f"{START.seq} {START.mac}\n")  # what was in it before
        do(book, look(book))
        assert (faults(memory), memory.ledger.head.read().seq) == ({}, 11)


def test_a_head_in_an_append_only_folder_is_begun_and_added_to(keyless, url, apart):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory, attribute(apart.parent, "a"):
        assert sign(memory.ledger, unsigned(memory.ledger)) == 11
        with attribute(apart, "a"):
            memory.learnings.retire(2, actor="rita")
        assert (faults(memory), apart.read_text().split()[-2]) == ({}, "13")


def test_mending_needs_no_head(memory, head):
    tamper(memory, "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 2")
    block(head)
    assert mend(memory.ledger, mendable(memory.ledger)) == 1
    assert memory.learnings.get(2).insight == BONDS


# -- what comes in while somebody is asked ---------------------------------------------------------------------


def test_what_is_signed_while_a_restart_waits_keeps_its_signature(memory, url):
    tamper(memory, "DELETE FROM decisions WHERE id = 6")
    shown = everything(memory.ledger)
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as other:
        other.learnings.add(ProposalDraft("Late", "Compare late funds."), namespace="default", actor="ben")
        other.learnings.retire(2, actor="ben")
        assert restart(memory.ledger, shown) == 10
        assert (faults(memory), unsigned(memory.ledger), recalled(memory)) == ({}, [], {1, 4})
        other.learnings.edit(4, title="Later", actor="ben")
        assert (faults(other), other.ledger.head.read().seq) == ({}, 10 + 4 + 2)


@pytest.mark.parametrize(
    "forged",
    [
        "UPDATE revisions SET insight = 'Buy mine.' WHERE learning_id = 4",
        "UPDATE ledger SET commitment = (SELECT commitment FROM ledger WHERE seq = 2) WHERE seq = 13",
    ],
)
def test_what_comes_in_forged_while_a_restart_waits_is_not_accepted(memory, forged):
    shown = everything(memory.ledger)
    memory.learnings.add(ProposalDraft("Late", "Compare late funds."), namespace="default", actor="ben")
    tamper(memory, forged)
    restart(memory.ledger, shown)
    assert "revision 1 of learning 4" in faults(memory)


def test_what_another_key_signs_while_a_restart_waits_was_not_seen_and_is_not_signed(memory, url):
    with open_memory(url, embedder=Hashed(), audit_key=OTHER) as other:
        shown = everything(other.ledger)
        memory.learnings.add(ProposalDraft("Late", "Compare late funds."), namespace="default", actor="ben")
        restart(other.ledger, shown)
        assert recalled(other) == {1, 2}
        assert [one.link.row_id for one in unsigned(other.ledger)] == [7, 4]


def test_a_ledger_that_was_begun_anew_while_a_restart_waits_is_left_alone(memory, url):
    shown = everything(memory.ledger)
    with open_memory(url, embedder=Hashed(), audit_key=OTHER) as other:
        restart(other.ledger, everything(other.ledger))
        before = ledger_of(memory)
        with pytest.raises(Conflict, match="nothing was changed"):
            restart(memory.ledger, shown)
        assert (ledger_of(memory), faults(other)) == (before, {})


def test_a_ledger_whose_last_link_cannot_be_read_can_be_restarted(memory):
    if memory.database.dialect == "postgresql":
        tamper(memory, "UPDATE ledger SET mac = '' WHERE seq = 11")
    else:
        tamper(memory, "UPDATE ledger SET mac = CAST(x'80ff' AS TEXT) WHERE seq = 11")
    restart(memory.ledger, everything(memory.ledger))
    assert faults(memory) == {}


def test_what_two_people_sign_at_once_is_signed_once(keyless, url):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        shown = unsigned(memory.ledger)
        assert (sign(memory.ledger, shown[:4]), sign(memory.ledger, shown)) == (4, 7)
        assert faults(memory) == {}


def test_what_is_changed_again_while_mending_waits_is_not_mended_unseen(memory):
    tamper(memory, "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 1")
    shown = mendable(memory.ledger)
    tamper(memory, "UPDATE learnings SET insight = 'Buy yours.' WHERE id = 1")
    assert mend(memory.ledger, shown) == 0
    assert memory.learnings.get(1).insight == "Buy yours."


# -- a head that never was, and one that was begun anew --------------------------------------------------------


@pytest.fixture
def headless(url, tmp_path, monkeypatch):
    """A memory that is signed with a key only."""
    monkeypatch.setattr("learngate.stores.memory.find_head", lambda _: None)
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as opened:
        stock(opened)
        yield opened


def test_a_head_that_never_was_is_no_alarm_and_one_that_was_begun_is(headless, head):
    book = Ledger(headless.database, headless.ledger.key, Head(head))
    assert (faults(headless), list(all_faults(book)), book.has_head(), head.exists()) == ({}, [], False, False)
    begin_head(book)
    assert (book.has_head(), book.head.read().seq, faults(headless)) == (True, 1 + 11 + 1, {})
    begin_head(book)
    assert book.links() == 13
    head.unlink()
    begin_head(book)
    assert ([fault.where for fault in all_faults(book)], head.exists()) == (["head"], False)


@pytest.mark.parametrize(
    "forged",
    [
        "UPDATE ledger SET kind = 'head', row_id = 0, revision = 0, commitment = 'none' WHERE seq = 1",
        "DELETE FROM ledger",
    ],
)
def test_nobody_without_the_key_makes_a_lost_head_look_as_if_it_never_was(memory, head, forged):
    assert memory.ledger.has_head()
    tamper(memory, forged)
    assert memory.ledger.has_head()
    begin_head(memory.ledger) if "DELETE" not in forged else None
    assert faults(memory)


def test_a_head_whose_begin_was_cut_off_is_begun_by_a_rerun(headless, head):
    book = Ledger(headless.database, headless.ledger.key, Head(head))
    event.listen(headless.database._engine, "commit", fail, once=True)
    with pytest.raises(Exception, match="cut off"):
        begin_head(book)
    assert (head.exists(), book.has_head(), list(all_faults(book))) == (True, False, [])
    begin_head(book)
    assert (book.has_head(), book.head.read().seq, list(all_faults(book))) == (True, 13, [])


def fail(_):
    raise RuntimeError("cut off")


def test_a_restart_without_a_head_begins_a_ledger_that_has_none(memory, head):
    book = Ledger(memory.database, memory.ledger.key, None)
    restart(book, everything(book))
    assert (book.has_head(), book.links(), list(all_faults(book))) == (False, 12, [])
    head.unlink()
    assert faults(memory) == {}
    restart(memory.ledger, everything(memory.ledger))
    assert (memory.ledger.has_head(), memory.ledger.head.read().seq, faults(memory)) == (True, 11, {})


def test_a_line_of_the_ledger_before_does_not_reach_the_head_that_a_restart_began(memory, url, head, monkeypatch):
    advance = Head.advance

    def late(*line):
        monkeypatch.setattr(Head, "advance", advance)
        tamper(memory, "DELETE FROM decisions WHERE id = 6")  # so that the new ledger is the shorter one
        with open_memory(url, embedder=Hashed(), audit_key=OTHER) as other:
            restart(other.ledger, everything(other.ledger))
        advance(*line)

    monkeypatch.setattr(Head, "advance", late)
    memory.learnings.add(ProposalDraft("Late", "Compare late funds."), namespace="default", actor="rita")
    tip = memory.ledger.head.read()
    with open_memory(url, embedder=Hashed(), audit_key=OTHER) as other:
        assert (faults(other), tip.mac) == ({}, ledger_of(other)[-1].mac)
        other.learnings.retire(1, actor="rita")
        assert (faults(other), other.ledger.head.read().seq) == ({}, 14)
