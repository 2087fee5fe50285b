import sqlite3

import pytest
from sqlalchemy import text
from sqlalchemy.schema import CreateTable

from learngate.stores import StoreError, StoreUnusable, open_memory
from learngate.stores.database import Database
from learngate.stores.migrations import MIGRATIONS, migrate, version
from learngate.stores.tables import metadata
from tests.stores.support import go, processes


@pytest.fixture
def database(tmp_path):
    opened = Database(f"sqlite:///{tmp_path}/learngate.db")
    yield opened
    opened.close()


def objects(database: Database) -> dict[str, str]:
    with database.read() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master")).all()
    return {row.name: row.sql for row in rows}


def add_a_table(connection):
    connection.execute(text("CREATE TABLE added (x)"))


def break_half_way(connection):
    connection.execute(text("CREATE TABLE half (x)"))
    connection.execute(text("INSERT INTO half VALUES (1)"))
    raise RuntimeError("the power is gone")


def test_a_new_database_gets_every_table_and_says_which_schema_it_has(database):
    assert migrate(database) == len(MIGRATIONS)
    made = objects(database)
    assert set(metadata.tables) <= made.keys()
    with database.read() as connection:
        assert version(connection, database.name) == len(MIGRATIONS)
        dialect = connection.dialect
    for table in metadata.sorted_tables:
        assert _words(made[table.name]) == _words(str(CreateTable(table).compile(dialect=dialect)))


def _words(sql: str) -> list[str]:
    return sql.split()


def test_opening_again_changes_nothing(database):
    migrate(database)
    made = objects(database)
    migrate(database)
    assert objects(database) == made
    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM learngate_schema")) == len(MIGRATIONS)


def test_a_database_of_an_older_schema_takes_only_the_steps_it_lacks(database):
    migrate(database)
    with database.write() as connection:
        connection.execute(text("INSERT INTO sessions (id, opened_at) VALUES ('kept', '2026-01-01')"))
    assert migrate(database, (*MIGRATIONS, add_a_table)) == len(MIGRATIONS) + 1
    assert "added" in objects(database)
    with database.read() as connection:
        assert connection.scalar(text("SELECT id FROM sessions")) == "kept"


@pytest.mark.parametrize("already", [0, 1])
def test_a_step_that_fails_half_way_leaves_nothing_of_any_step(database, already):
    if already:
        migrate(database)
    before = objects(database)
    with pytest.raises(RuntimeError, match="the power is gone"):
        migrate(database, (*MIGRATIONS, add_a_table, break_half_way))
    assert objects(database) == before
    assert migrate(database) == len(MIGRATIONS)


def test_a_statement_that_a_step_cannot_run_is_an_error_of_ours(database):
    def wrong(connection):
        connection.execute(text("ALTER TABLE nowhere ADD COLUMN x"))

    with pytest.raises(StoreError, match="no such table"):
        migrate(database, (*MIGRATIONS, wrong))
    assert objects(database) == {}


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "it.db"
    open_memory(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO learngate_schema VALUES (?, '2030-01-01T00:00:00+00:00')", (99,))
    other.close()
    with pytest.raises(StoreUnusable, match=r"has schema 99, this learngate knows 1: upgrade learngate"):
        open_memory(f"sqlite:///{path}")


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE sessions (x)",
        "CREATE TABLE changes (x)",
        "CREATE VIEW turns_searchable AS SELECT 1",
        "CREATE TABLE learnings_fts (x)",
    ],
)
def test_another_programs_tables_are_refused_and_left_alone(tmp_path, theirs):
    path = tmp_path / "it.db"
    with sqlite3.connect(path) as other:
        other.execute(theirs)
    other.close()
    with pytest.raises(
        StoreUnusable, match=r"holds tables of another program .*: give learngate a database of its own"
    ):
        open_memory(f"sqlite:///{path}")
    database = Database(f"sqlite:///{path}")
    assert list(objects(database).values()) == [theirs]
    database.close()


def test_another_programs_tables_of_other_names_do_not_matter(tmp_path):
    path = tmp_path / "it.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE shop (x)")
        other.execute("INSERT INTO shop VALUES (1)")
    other.close()
    with open_memory(f"sqlite:///{path}") as memory:
        memory.users.remember("ana", "likes tea")
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT x FROM shop").fetchall() == [(1,)]
    other.close()


def test_eight_processes_may_open_a_new_database_at_once(tmp_path):
    script = """
from learngate.stores import open_memory
ready()
with open_memory(sys.argv[1]) as memory:
    memory.checkpointer()
    print(memory.users.remember("ana", "likes tea").id)
"""
    url = f"sqlite:///{tmp_path}/learngate.db"
    with processes(script, *[[url]] * 8) as started:
        assert go(started) == [["1"]] * 8
    with open_memory(url) as memory:
        assert len(memory.users.list("ana")) == 1
