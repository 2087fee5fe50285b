"""A prepared statement gives what SQLAlchemy gives for it: rows, numbers and errors."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    insert,
    literal,
    null,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from learngate.stores import InvalidInput, StoreError, open_memory, prepared
from learngate.stores.prepared import LONG, Prepared
from learngate.stores.tables import Json, Moment
from tests.databases import needs_postgres
from tests.stores.support import Hashed

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("size", BigInteger),
    Column("open", Boolean),
    Column("at", Moment),
    Column("said", Json),
    sqlite_autoincrement=True,
)
COLUMNS = things.c
ADD = Prepared(insert(things))
EVERY = Prepared(select(things).order_by(COLUMNS.id))
AMONG = Prepared(
    select(COLUMNS.id, func.length(COLUMNS.name).label("long"), literal("it").label("kind"))
    .where(COLUMNS.id.in_(bindparam("ids", expanding=True)), COLUMNS.name != bindparam("but"))
    .order_by(COLUMNS.id)
)

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
rows = st.fixed_dictionaries(
    {
        "name": words,
        "size": st.none() | st.integers(-(2**63), 2**63 - 1),
        "open": st.none() | st.booleans(),
        "at": st.none() | st.datetimes(timezones=st.just(UTC)),
        "said": st.none() | values,
    }
)


@pytest.fixture
def database(url):
    with open_memory(url, embedder=Hashed()) as memory:
        with memory.database.write() as connection:
            things.drop(connection, checkfirst=True)
            things.create(connection)
        yield memory.database


def row(name="a", **given):
    return {"name": name, "size": None, "open": None, "at": None, "said": None} | given


def same(mine, theirs):
    assert [one._asdict() for one in mine] == [one._asdict() for one in theirs]
    assert [tuple(one) for one in mine] == [tuple(one) for one in theirs]


@given(given=st.lists(rows, min_size=1, max_size=4), ids=st.lists(st.integers(1, 9), max_size=6), but=words)
def test_rows_are_those_of_sqlalchemy(database, given, ids, but):
    with database.write() as connection:
        connection.execute(things.delete())
        numbers = [ADD.add(connection, one) for one in given]
        ADD.run(connection, *given)
        same(EVERY.all(connection, {}), connection.execute(EVERY.statement).all())
        read = [one._asdict() for one in EVERY.all(connection, {})]
        assert [one.pop("id") for one in read][: len(given)] == numbers
        assert read == given * 2
        asked = {"ids": [*ids, *numbers], "but": but}
        same(AMONG.all(connection, asked), connection.execute(AMONG.statement, asked).all())


def test_a_statement_is_kept_for_lists_of_some_lengths_and_right_for_all(database, monkeypatch):
    # Long lists are left to SQLAlchemy: with fewer forms, the short ones are more than are kept.
    monkeypatch.setattr(prepared, "KEPT", 64)
    with database.write() as connection:
        ADD.run(connection, *(row(str(number)) for number in range(LONG + 10)))
        for length in (*range(LONG + 10), 3, 0):
            found = AMONG.all(connection, {"ids": [*range(1, length + 1)], "but": "x"})
            assert [one.id for one in found] == [*range(1, length + 1)]
    assert len(AMONG._forms) <= 64


def test_threads_prepare_one_statement_at_once(database):
    with database.write() as connection:
        ADD.run(connection, *(row() for _ in range(20)))
    query = Prepared(AMONG.statement)

    def ask(number):
        with database.look() as connection:
            return [one.id for one in query.all(connection, {"ids": [*range(1, number + 1)], "but": "x"})]

    numbers = [*range(1, 9)] * 4
    with ThreadPoolExecutor(8) as threads:
        assert [*threads.map(ask, numbers)] == [[*range(1, number + 1)] for number in numbers]


def test_an_update_takes_what_is_given_and_what_it_says_itself(database):
    rename = Prepared(
        update(things).where(COLUMNS.id == bindparam("its")).values(name=bindparam("called"), size=COLUMNS.size + 1)
    )
    with database.write() as connection:
        number = ADD.add(connection, row(size=1))
        rename.run(connection, {"its": number, "called": "b"})
        found = EVERY.first(connection, {})
    assert (found.name, found.size) == ("b", 2)


def test_no_row_is_none_and_a_union_has_the_names_of_its_first(database):
    both = Prepared(
        union_all(select(func.count().label("n"), null().label("more")), select(COLUMNS.id, COLUMNS.size))
    )
    with database.look() as connection:
        assert EVERY.first(connection, {}) is None
        assert both.first(connection, {})._asdict() == {"n": 1, "more": None}


def failing(work, *, on):
    with pytest.raises(StatementError) as failed, on.connect() as connection, connection.begin():
        work(connection)
    return failed.value


@pytest.mark.parametrize(
    ("given", "kind"),
    [(row(None), IntegrityError), (row(said=object()), StatementError), (row(id=1), IntegrityError)],
    ids=["null", "no JSON", "there already"],
)
def test_errors_are_those_of_sqlalchemy(database, given, kind):
    with database.write() as connection:
        ADD.add(connection, row(id=1)) if "id" in given else None
    mine = failing(lambda connection: ADD.add(connection, given), on=database._engine)
    theirs = failing(lambda connection: connection.execute(insert(things), given), on=database._engine)
    assert type(mine) is type(theirs)
    assert isinstance(mine, kind)
    assert type(mine.orig) is type(theirs.orig)


def test_a_number_that_no_database_holds_is_refused(database):
    with pytest.raises(InvalidInput), database.write() as connection:
        ADD.add(connection, row(size=2**63))


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_bytes_that_are_no_text_are_an_error_with_no_values_in_it(database):
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO things (name) VALUES (CAST(x'ff' AS TEXT))")
    error = failing(lambda connection: EVERY.all(connection, {}), on=database._engine)
    assert isinstance(error, DBAPIError)
    assert "decode to UTF-8" in str(error)
    assert error.params is None


@needs_postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_text_that_postgres_refuses_is_said_to_be_one(database):
    with pytest.raises(InvalidInput, match="NUL"), database.write() as connection:
        ADD.add(connection, row("a\0b"))


def test_text_is_a_statement_too(database):
    told = Prepared(text("SELECT id, at FROM things WHERE name = :name").columns(COLUMNS.id, COLUMNS.at))
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with database.write() as connection:
        number = ADD.add(connection, row("b", at=at))
        assert told.first(connection, {"name": "b"}) == (number, at)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_an_error_that_is_kept_keeps_nothing_open(database):
    with database.write() as connection:
        ADD.add(connection, row("whole"))
        connection.exec_driver_sql("INSERT INTO things (name) VALUES (CAST(x'ff' AS TEXT))")
    kept = [failing(lambda connection: EVERY.all(connection, {}), on=database._engine) for _ in range(3)]
    with pytest.raises(StoreError) as told, database.read() as connection:
        EVERY.all(connection, {})
    other = database.connect()
    other.execute("DELETE FROM things WHERE name != 'whole'")
    assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    other.close()
    with database.write() as connection:
        ADD.add(connection, row("next"))
        assert [one.name for one in EVERY.all(connection, {})] == ["whole", "next"]
    assert kept
    assert told.value
