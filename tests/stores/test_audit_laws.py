"""The laws of the signatures: any change is found, and no honest life is an alarm, however it ends."""

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learngate.stores import Conflict, Decision, NotFound, ProposalDraft, open_memory
from learngate.stores.repair import repair
from tests.stores.support import Hashed, go, processes, together
from tests.stores.tampering import KEY, OTHER, columns, faults, recalled, stock, tamper


@pytest.fixture
def head(tmp_path, monkeypatch):
    """Where the ledger's head is kept, on either database."""
    path = tmp_path / "kept elsewhere.head"
    monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(path))
    return path


@pytest.fixture
def memory(url, head):
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as opened:
        stock(opened)
        yield opened


@pytest.fixture
def here(tmp_path):
    """A memory in a file, with its head beside it."""
    with open_memory(f"sqlite:///{tmp_path}/learngate.db", embedder=Hashed(), audit_key=KEY) as opened:
        stock(opened)
        yield opened


# -- many writers, and death between commit and head --------------------------------------------------------------

WRITER = f"""
from learngate.stores import ProposalDraft, open_memory
from tests.stores.support import Hashed
url, name = sys.argv[1:]
with open_memory(url, embedder=Hashed(), audit_key={KEY!r}) as memory:
    ready()
    for n in range(5):
        draft = ProposalDraft(f"{{name}} {{n}}", f"Rule {{n}} of {{name}}.")
        memory.learnings.add(draft, namespace="default", actor=name)
"""


def test_processes_that_learn_at_once_write_one_chain_from_the_first_link_on(url, head):
    with processes(WRITER, [url, "a"], [url, "b"]) as started:
        go(started)
    with open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        assert (memory.ledger.links(), memory.ledger.head.read().seq) == (20, 20)
        assert faults(memory) == {}


def test_threads_that_learn_at_once_write_one_chain(memory):
    def learn(name):
        return lambda: memory.learnings.add(ProposalDraft(name, f"Rule of {name}."), namespace="n", actor=name)

    results = together(*(learn(f"t{n}") for n in range(8)))
    assert not [one for one in results if isinstance(one, Exception)]
    assert faults(memory) == {}
    assert memory.ledger.head.read().seq == 11 + 16


KILLED = f"""
import os, signal
from learngate.stores import ProposalDraft, open_memory
from learngate.stores.head import Head
from tests.stores.support import Hashed
url, point = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with open_memory(url, embedder=Hashed(), audit_key={KEY!r}) as memory:
    ready()
    if point == "before the head":
        Head.advance = die
    else:
        os.fsync = lambda file: (os.ftruncate(file, os.fstat(file).st_size - 30), die())
    memory.learnings.add(ProposalDraft("Last", "The last words."), namespace="default", actor="ana")
    print("lived")
"""


@pytest.mark.parametrize("point", ["before the head", "in the middle of its line"])
def test_death_between_commit_and_head_is_no_alarm(memory, url, head, point):
    with processes(KILLED, [url, point]) as started:
        assert go(started) == [[]]
    assert memory.learnings.get(4).insight == "The last words."
    assert (memory.ledger.links(), memory.ledger.head.read().seq) == (13, 11)
    assert faults(memory) == {}
    memory.learnings.retire(4, actor="rita")
    assert (memory.ledger.links(), memory.ledger.head.read().seq) == (15, 15)
    assert faults(memory) == {}


# -- any change at all ---------------------------------------------------------------------------------------------

COVERED = {
    "learnings": [
        "uid",
        "namespace",
        "title",
        "insight",
        "applies_when",
        "status",
        "revision",
        "updated_at",
        "proposal_id",
    ],
    "revisions": [
        *("learning_id", "revision", "uid", "namespace", "status", "title", "insight", "applies_when"),
        *("proposal_id", "decision_id", "change", "at"),
    ],
    "decisions": ["id", "proposal_id", "type", "decided_at", "learning_id", "reviewer", "note"],
    "ledger": ["seq", "kind", "row_id", "revision", "commitment", "mac"],
}


def test_every_column_is_covered_derived_or_named_here(here):
    derived = {"digest", "created_at", "scope", "body"}
    assert set(columns(here, "learnings")) == {*COVERED["learnings"], *derived, "id"}
    for table in ("revisions", "decisions", "ledger"):
        assert set(columns(here, table)) == set(COVERED[table])


CHANGES = {"status": "'retired'", "change": "'restored'", "type": "'edit'", "kind": "'decision'"}


def test_a_change_of_any_column_is_found_and_names_its_row(memory):
    rows = {
        "revisions": ("learning_id = 1 AND revision = 2", "revision 2 of learning 1"),
        "decisions": ("id = 4", "decision 4"),
        "ledger": ("seq = 8", "link 8 (revision 2 of learning 1)"),
    }
    for table, (where, name) in rows.items():
        kept = one(memory, table, where)
        for column in COVERED[table]:
            number = isinstance(kept[column], int)
            changed = CHANGES.get(column, "900" if number else "'changed'")
            keys = {"learning_id", "revision", "id", "seq", "row_id", "kind"}
            moved = column in keys - ({"kind"} if table != "ledger" else set())
            tamper(memory, f"UPDATE {table} SET {column} = {changed} WHERE {where}")
            found = faults(memory)
            assert found, (table, column)
            assert moved or name in found, (table, column, found)
            restore(memory, table, kept, column, changed)
    assert faults(memory) == {}


def one(memory, table, where):
    """Return a row as it is stored."""
    with memory.database.read() as connection:
        return dict(connection.exec_driver_sql(f"SELECT * FROM {table} WHERE {where}").one()._mapping)


def restore(memory, table, kept, column, changed):
    """Put a column back that was changed, wherever the row is now."""
    value = "NULL" if kept[column] is None else repr(kept[column])
    keys = {"revisions": ("learning_id", "revision"), "decisions": ("id",), "ledger": ("seq",)}[table]
    where = " AND ".join(f"{key} = {changed if key == column else repr(kept[key])}" for key in keys)
    tamper(memory, f"UPDATE {table} SET {column} = {value} WHERE {where}")


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4)), max_size=12))
def test_whatever_comes_through_the_gate_verifies(steps):
    with open_memory("sqlite://", embedder=Hashed(), audit_key=KEY) as memory:
        for number, (step, learning) in enumerate(steps):
            with suppress(Conflict, NotFound):
                act(memory.learnings, step, learning, number)
            if step == 7:
                memory.erase(("ana", "ben")[learning % 2])
        assert faults(memory) == {}
        active = memory.learnings.list(namespace="n")
        found = memory.learnings.search("rule", namespace="n", k=50, floor=False)
        assert {hit.learning for hit in found} == set(active)


def act(learnings, step, learning, number):
    if step == 0:
        learnings.add(ProposalDraft("T", f"Rule {number}."), namespace="n", actor="ben")
    elif step == 1:
        learnings.edit(learning, insight=f"Another rule {number}.", actor="ana")
    elif step == 2:
        learnings.retire(learning, actor="ana", note="enough")
    elif step == 3:
        learnings.restore(learning, actor="ben")
    elif step == 4:
        learnings.revert(learning, 1, actor="ben")
    elif step in {5, 6}:
        proposed = learnings.propose(
            ProposalDraft("T", f"Rule {number}.", rationale="ana said so"),
            namespace="n",
            proposer="m",
            user_id="ana",
        )
        decision = Decision.reject("no") if step == 5 else Decision.edit(title="U", note="yes")
        learnings.decide(proposed.id, decision, reviewer="ana")


@given(st.data())
def test_any_byte_that_is_changed_is_found(any_memory, data):
    memory = any_memory
    table = data.draw(st.sampled_from(sorted(COVERED)))
    column = data.draw(st.sampled_from(COVERED[table]))
    connection = memory.database.connect()
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        kept = connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} <> ''").fetchall()
        rowid, value = data.draw(st.sampled_from(kept))
        if isinstance(value, int):
            # A row that is there already keeps its number.
            changed = data.draw(st.integers(-(2**62), 2**62).filter(lambda n: n not in dict(map(reversed, kept))))
        else:
            raw = value.encode()
            at = data.draw(st.integers(0, len(raw) - 1))
            byte = data.draw(st.integers(0, 255).filter(lambda n: n != raw[at]))
            changed = raw[:at] + bytes([byte]) + raw[at + 1 :]
        cast = "?" if isinstance(value, int) else "CAST(? AS TEXT)"
        connection.execute("BEGIN")
        connection.execute(f"UPDATE {table} SET {column} = {cast} WHERE rowid = ?", (changed, rowid))
        moved = (table, column) in {("ledger", "seq"), ("decisions", "id")}
        connection.execute("COMMIT")
        try:
            assert faults(memory), (table, column, rowid, changed)
        finally:
            here = changed if moved else rowid
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, here))
        assert faults(memory) == {}
    finally:
        connection.close()


@pytest.fixture(scope="module")
def any_memory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    with open_memory(f"sqlite:///{folder}/learngate.db", embedder=Hashed(), audit_key=KEY) as memory:
        stock(memory)
        yield memory


# -- whole data ----------------------------------------------------------------------------------------------------


def test_what_is_imported_is_signed_with_the_key_of_where_it_comes_to(memory, tmp_path, monkeypatch):
    lines = b"".join(memory.export())
    monkeypatch.delenv("LEARNGATE_AUDIT_HEAD")
    with open_memory(f"sqlite:///{tmp_path}/other.db", embedder=Hashed(), audit_key=OTHER) as other:
        other.load(BytesIO(lines), actor="ben")
        assert faults(other) == {}
        assert recalled(other) == recalled(memory) == {1, 2}
        assert other.ledger.links() == memory.ledger.links()


def test_repairing_is_no_alarm_and_hides_none(memory):
    list(repair(memory.database, memory.vectors))
    assert faults(memory) == {}
    tamper(
        memory,
        "UPDATE learnings SET scope = 'x', digest = 'x', body = 'x' WHERE id = 1",
        "UPDATE learnings SET insight = 'Buy mine.' WHERE id = 2",
        "UPDATE revisions SET insight = 'Buy mine.' WHERE learning_id = 2",
        "DELETE FROM decisions WHERE id = 6",
    )
    list(repair(memory.database, memory.vectors))
    assert faults(memory).keys() == {"learning 2", "revision 1 of learning 2", "decision 6"}
    assert recalled(memory) == {1}
