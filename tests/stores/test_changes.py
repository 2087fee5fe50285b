"""What a scope is looked at for: what changed of it since, all of it where that was too much or too long ago."""

import pytest
from sqlalchemy import insert

from learngate.stores import open_memory
from learngate.stores.changes import FAR, MANY, Seen, to_look_at
from learngate.stores.tables import changes
from tests.stores.support import Hashed


@pytest.fixture
def connection(url):
    with open_memory(url, embedder=Hashed()) as memory, memory.database.write() as connection:
        yield connection


def note(connection, rows, *, scope="mine", kind="turn"):
    told = [{"kind": kind, "row_id": row, "scope": scope, "op": "put"} for row in rows]
    connection.execute(insert(changes), told)


def test_nobody_looked_yet(connection):
    assert to_look_at(connection, "turn", "mine", None) == (0, None)
    assert to_look_at(connection, "turn", "mine", Seen(0)) == (0, set())


def test_what_changed_since_and_what_lacked_something(connection):
    note(connection, [7, 8])
    note(connection, [9], scope="another's")
    note(connection, [10], kind="memory")
    note(connection, [11, 7])
    cursor, rows = to_look_at(connection, "turn", "mine", Seen(0, frozenset({3})))
    assert (cursor, rows) == (6, {3, 7, 8, 11})
    assert to_look_at(connection, "turn", "mine", Seen(2)) == (6, {7, 11})
    assert to_look_at(connection, "turn", "mine", Seen(6)) == (6, set())


def test_more_than_many_is_all_of_it(connection):
    note(connection, range(MANY))
    assert to_look_at(connection, "turn", "mine", Seen(0)) == (MANY, {*range(MANY)})
    note(connection, [MANY])
    assert to_look_at(connection, "turn", "mine", Seen(0)) == (MANY + 1, None)


def test_a_long_time_ago_is_all_of_it_and_costs_no_more(connection):
    note(connection, [1])
    note(connection, range(FAR), scope="another's")
    assert to_look_at(connection, "turn", "mine", Seen(1)) == (FAR + 1, set())
    assert to_look_at(connection, "turn", "mine", Seen(0)) == (FAR + 1, None)
