"""What a driver quotes of a row is somebody's text: neither our error nor the traceback of its causes shows it."""

import traceback
from contextlib import closing

import pytest
from sqlalchemy import column, insert, select, table

from learngate.stores import InvalidInput, StoreError
from learngate.stores.database import Database
from tests.databases import needs_postgres

SAID = "My mother is called Xanthippe."
NOTES = table("notes", column("id"), column("said"), column("number"))


@pytest.fixture
def database(url):
    opened = Database(url)
    with opened.write() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, said TEXT UNIQUE, number INTEGER NOT NULL,"
            " CHECK (number < 9))"
        )
        connection.execute(insert(NOTES).values(id=1, said=SAID, number=1))
    yield opened
    with opened.write() as connection:
        connection.exec_driver_sql("DROP TABLE notes")
    opened.close()


def shown(raised):
    """Return what whoever logs an error writes down."""
    return "".join(traceback.format_exception(raised.value))


ROWS = {
    "the same text twice": {"id": 2, "said": SAID, "number": 2},
    "nothing where something must be": {"id": 2, "said": SAID * 2, "number": None},
    "a number too large": {"id": 2, "said": SAID * 2, "number": 9},
    "text for a number": {"id": SAID, "said": "", "number": 2},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_that_is_refused_is_not_quoted(database, row):
    with pytest.raises((StoreError, InvalidInput)) as raised, database.write() as connection:
        connection.execute(insert(NOTES).values(**row))
    assert "Xanthippe" not in shown(raised)
    assert "INSERT INTO notes" in shown(raised)  # what was asked, and where, is still said


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_nor_is_one_that_the_driver_alone_was_given(database, row):
    sign = "?" if database.dialect == "sqlite" else "%s"
    with (
        pytest.raises((StoreError, InvalidInput)) as raised,
        database.translated(),
        closing(database.connect()) as connection,
    ):
        connection.execute(f"INSERT INTO notes VALUES ({sign}, {sign}, {sign})", list(row.values()))
    assert "Xanthippe" not in shown(raised)


def test_nor_is_a_value_that_no_statement_takes(database):
    with pytest.raises((StoreError, InvalidInput)) as raised, database.write() as connection:
        connection.execute(select(NOTES).where(NOTES.c.said == f"{SAID}\ud800"))
    assert "Xanthippe" not in shown(raised)


def test_what_was_refused_before_is_not_quoted_either(database):
    def twice(connection):
        try:
            connection.execute(insert(NOTES).values(**ROWS["the same text twice"]))
        finally:
            connection.execute(insert(NOTES).values(**ROWS["nothing where something must be"]))

    with pytest.raises(StoreError) as raised, database.write() as connection:
        twice(connection)
    assert "Xanthippe" not in shown(raised)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_text_that_cannot_be_decoded_is_not_quoted(database):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE notes SET said = CAST(said || x'ff' AS TEXT)")
    with pytest.raises(StoreError, match="Could not decode to UTF-8") as raised, database.read() as connection:
        connection.execute(select(NOTES)).all()
    assert "Xanthippe" not in shown(raised)


@needs_postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_what_is_wrong_is_still_named(database):
    with pytest.raises(StoreError, match='violates unique constraint "notes_said_key"'), database.write() as one:
        one.execute(insert(NOTES).values(**ROWS["the same text twice"]))
    with pytest.raises(InvalidInput, match=r"InvalidTextRepresentation, 22P02"), database.write() as one:
        one.exec_driver_sql("SELECT CAST(CAST('Xanthippe' AS TEXT) AS INTEGER)")
