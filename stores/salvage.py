"""Salvage: every row that can still be read of an SQLite file with damaged pages, in a new file."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from learngate.stores.backup import discard
from learngate.stores.database import Database
from learngate.stores.errors import InvalidInput, StoreUnavailable, StoreUnusable
from learngate.stores.records import now
from learngate.stores.tables import metadata

CHECKPOINTS = ("checkpoints", "writes")


def salvage(
    database: Database,
    path: Path,
    *,
    prepare: Callable[[Path], None],
    finish: Callable[[Path], None] = lambda _: None,
) -> dict[str, tuple[int, bool]]:
    """Copy what can be read of a database into a new one; return how many rows of each table, and whether all.

    `prepare` makes the new database with its empty tables, `finish` mends it once it is filled. Rows are copied as
    they are: ids and signatures stay. What no table takes goes to the quarantine. The damaged file is only read;
    the new one is there under its name once it is whole.

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
        finish(part)
        part.replace(path)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}: mend that, then try again") from error
    finally:
        discard(part)
    return saved


NOTHING = "nothing in it can be read, because the page that lists its tables is damaged: what is left is a backup"


@contextmanager
def filled_up(file: Path) -> Iterator[Database]:
    """Open a copy of a file that was cut off, with zeros where its end was, so that SQLite reads the rest.

    The copy stands beside the file while it is needed, and the file is only read.

    Raises:
        StoreUnusable: of its first page, which lists the tables, nothing can be read.
        StoreUnavailable: the copy cannot be written.
    """
    copy = file.with_name(f"{file.name}.copy.part")
    discard(copy)
    try:
        shutil.copyfile(file, copy)
        log = file.with_name(f"{file.name}-wal")
        if log.exists():
            shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
        with copy.open("r+b") as opened:
            head = opened.read(100)
            size = int.from_bytes(head[16:18]) if len(head) == 100 else 0
            whole = (65536 if size == 1 else size) * int.from_bytes(head[28:32])
            if not head.startswith(b"SQLite format 3\0"):
                raise StoreUnusable(f"{file}: {NOTHING}")
            # A head that is damaged, too, names any length.
            if copy.stat().st_size < whole <= 4 * copy.stat().st_size + 1_000_000:
                opened.truncate(whole)
        try:
            database = Database(str(URL.create("sqlite", database=str(copy))))
        except StoreUnusable as error:
            raise StoreUnusable(f"{file}: {NOTHING}") from error
        with closing(database):
            yield database
    except OSError as error:
        raise StoreUnavailable(f"{copy} cannot be written: {error.strerror}: mend that, then try again") from error
    finally:
        discard(copy)


def _saved(database: Database, part: Path) -> dict[str, tuple[int, bool]]:
    with database.translated(), closing(database.connect()) as source:
        source.text_factory = _text
        try:
            known = {row[0] for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError:
            known = set()
        if known.isdisjoint(metadata.tables):
            raise StoreUnusable(f"{database.name}: {NOTHING}")
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


class _Garbled(bytes):
    """What is stored as a text, and is no UTF-8."""


def _text(value: bytes) -> str | _Garbled:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _Garbled(value)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, name: str) -> tuple[int, bool]:
    columns = [row[1] for row in target.execute(f"PRAGMA table_info({name})")]
    if not columns:  # no checkpointer was ever opened
        return 0, True
    reader = Reader(source, name, columns)
    count = 0
    target.execute("BEGIN")
    # In the tables of the checkpoints nothing is looked at afterwards.
    target.execute(f"PRAGMA ignore_check_constraints = {'OFF' if name in CHECKPOINTS else 'ON'}")
    for row in reader.rows():
        try:
            values = ", ".join("CAST(? AS TEXT)" if isinstance(one, _Garbled) else "?" for one in row)
            insert = f"INSERT INTO {name} (rowid, {', '.join(columns)}) VALUES ({values})"
            count += target.execute(insert, row).rowcount
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:  # it was damaged
            reader.whole = False
            _set_apart(target, name, dict(zip(columns, row[1:], strict=True)), str(error))
    target.execute("COMMIT")
    return count, reader.whole


def _set_apart(target: sqlite3.Connection, name: str, row: dict[str, Any], why: str) -> None:
    kept = {
        key: value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
        for key, value in row.items()
    }
    user_id = row.get("user_id")
    target.execute(
        "INSERT INTO quarantine (source, user_id, why, row, at) VALUES (?, ?, ?, ?, ?)",
        (
            name,
            user_id if isinstance(user_id, str) else None,
            why,
            json.dumps(kept, default=repr),
            now().isoformat(timespec="microseconds"),
        ),
    )


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
