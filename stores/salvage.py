"""Salvage: every row that can still be read of an SQLite file with damaged pages, in a new file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from learngate.stores.backup import discard
from learngate.stores.database import Database
from learngate.stores.errors import InvalidInput, StoreUnavailable
from learngate.stores.tables import metadata

CHECKPOINTS = ("checkpoints", "writes")


def salvage(database: Database, path: Path, *, prepare: Callable[[Path], None]) -> dict[str, tuple[int, bool]]:
    """Copy what can be read of a database into a new one; return how many rows of each table, and whether all.

    `prepare` makes the new database with its empty tables. Rows are copied as they are: ids and signatures stay.
    The damaged file is only read; the new one is there under its name once it is whole.

    Raises:
        InvalidInput: the new file is there already.
        StoreUnavailable: it cannot be written, for want of room perhaps; nothing is left of it.
        StoreUnusable: of the damaged file not even the list of its tables can be read.
    """
    if path.exists():
        raise InvalidInput(f"{path} is there already: move it away first")
    part = path.with_name(f"{path.name}.part")
    discard(part)  # what one that was killed has left
    try:
        prepare(part)
        saved = _saved(database, part)
        part.replace(path)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}: mend that, then try again") from error
    finally:
        discard(part)
    return saved


def _saved(database: Database, part: Path) -> dict[str, tuple[int, bool]]:
    with database.translated(), closing(database.connect()) as source:
        known = {row[0] for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        new = Database(str(URL.create("sqlite", database=str(part))))
        with closing(new), new.translated(), closing(new.connect()) as target:
            target.execute("PRAGMA foreign_keys = OFF")
            saved = {
                name: _copy(source, target, name) if name in known else (0, True)
                for name in [*metadata.tables, *CHECKPOINTS]
                if name != "learngate_schema"
            }
            # Closing would do it, too, but would not say that it could not.
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return saved


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, name: str) -> tuple[int, bool]:
    columns = [row[1] for row in target.execute(f"PRAGMA table_info({name})")]
    if not columns:  # no checkpointer was ever opened
        return 0, True
    reader = Reader(source, name, columns)
    insert = f"INSERT OR IGNORE INTO {name} (rowid, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})"
    count = 0
    target.execute("BEGIN")
    for row in reader.rows():
        try:
            count += target.execute(insert, row).rowcount
        except (sqlite3.IntegrityError, sqlite3.DataError):  # a value that no row may have: it was damaged
            reader.whole = False
    target.execute("COMMIT")
    return count, reader.whole


class Reader:
    """Reads a table's rows in the order of their numbers, past what is damaged."""

    def __init__(self, connection: sqlite3.Connection, table: str, columns: list[str]) -> None:
        self._connection = connection
        self._query = f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED WHERE rowid"
        self.whole = True

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield each row that can be read."""
        at = -(2**62)
        end = self._last()
        while True:
            try:
                for row in self._connection.execute(f"{self._query} >= ? ORDER BY rowid", (at,)):
                    at = row[0] + 1
                    yield row
            except sqlite3.DatabaseError:
                self.whole = False
            else:
                return
            following = self._next(at, end)
            if following is None:
                return
            at = following

    def _last(self) -> int:
        try:
            row = self._connection.execute(f"{self._query} < ? ORDER BY rowid DESC LIMIT 1", (2**62,)).fetchone()
        except sqlite3.DatabaseError:
            self.whole = False
            return 2**40
        return row[0] if row is not None else -1

    def _next(self, bad: int, end: int) -> int | None:
        """Return the lowest number from which rows can be read again, after one from which they cannot."""
        bad = max(bad, 0)
        step = 1
        while not self._readable(bad + step):
            if bad + step > end:
                return None
            bad, step = bad + step, step * 2
        good = bad + step
        while good - bad > 1:
            middle = (good + bad) // 2
            if self._readable(middle):
                good = middle
            else:
                bad = middle
        return good

    def _readable(self, at: int) -> bool:
        try:
            self._connection.execute(f"{self._query} >= ? ORDER BY rowid LIMIT 1", (at,)).fetchone()
        except sqlite3.DatabaseError:
            return False
        return True
