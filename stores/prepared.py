"""Statements that each turn runs: built once, compiled once, and on SQLite run by the driver itself.

SQLAlchemy keeps what it compiled, too, but what it does around each run takes several times as long as the run, and
a turn has some twenty.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Dialect, Insert, Select, TextualSelect, Update
from sqlalchemy.exc import DBAPIError, StatementError

Given = Mapping[str, Any]
LONG = 100
"""A longer list is left to SQLAlchemy: a statement is kept for each length."""
KEPT = 256
"""So many forms of a statement are kept: by what is given, and for how many values in each list."""


@dataclass(frozen=True, slots=True)
class _Form:
    """A statement for what is given of a shape: its SQL, what goes in, and what comes out."""

    sql: str
    order: tuple[str, ...]
    fixed: Given
    writes: Mapping[str, Callable[[Any], Any]]
    reads: tuple[tuple[int, Callable[[Any], Any]], ...]
    row: Callable[[Sequence[Any]], Any]

    def values(self, given: Given) -> list[Any]:
        """Return what the driver is given, in its order."""
        values = {**self.fixed, **given}
        for name, value in given.items():
            if isinstance(value, list):
                values |= {f"{name}_{number}": one for number, one in enumerate(value, start=1)}
        for name, write in self.writes.items():
            try:
                values[name] = write(values[name])
            except Exception as error:
                raise StatementError(str(error), self.sql, None, error, hide_parameters=True) from error
        return [values[name] for name in self.order]

    def rows(self, found: Sequence[Sequence[Any]]) -> list[Any]:
        """Return what the driver found, as named tuples."""
        if not self.reads:
            return [self.row(values) for values in found]
        rows = []
        for values in found:
            row = [*values]
            for number, read in self.reads:
                if row[number] is not None:
                    row[number] = read(row[number])
            rows.append(self.row(row))
        return rows


class Prepared:
    """A statement; a parameter in an IN is given as a list, of plain numbers or texts.

    What is inserted is given whole: columns have no defaults here. Errors are those of SQLAlchemy.
    """

    def __init__(self, statement: Select[Any] | CompoundSelect[Any] | TextualSelect | Insert | Update) -> None:
        self.statement = statement
        self._forms: dict[tuple[object, ...], _Form] = {}

    def all(self, connection: Connection, given: Given) -> Sequence[Any]:
        """Return what a SELECT finds, as named tuples."""
        lists = (value for value in given.values() if isinstance(value, list))
        if connection.dialect.name != "sqlite" or any(len(one) > LONG for one in lists):
            return connection.execute(self.statement, given).all()
        form = self._form(connection.dialect, given)
        found, _ = _driven(connection, form, given)
        return form.rows(found)

    def first(self, connection: Connection, given: Given) -> Any:
        """Return the row of a SELECT that finds one at the most; `None` where there is none."""
        found = self.all(connection, given)
        return found[0] if found else None

    def add(self, connection: Connection, row: Given) -> int:
        """Insert a row, and return its number."""
        if connection.dialect.name != "sqlite":
            made = connection.execute(self.statement, row).inserted_primary_key
            assert made is not None
            return int(made[0])
        form = self._form(connection.dialect, row)
        _, number = _driven(connection, form, row)
        return number

    def run(self, connection: Connection, *rows: Given) -> None:
        """Write each of these rows, of the same columns."""
        if connection.dialect.name != "sqlite":
            connection.execute(self.statement, rows[0] if len(rows) == 1 else [*rows])
            return
        _driven(connection, self._form(connection.dialect, rows[0]), *rows)

    def _form(self, dialect: Dialect, given: Given) -> _Form:
        shape = (*given, *(len(value) for value in given.values() if isinstance(value, list)))
        form = self._forms.get(shape)
        if form is None:
            form = self._made(dialect, given)
            # Whoever comes at the same time makes the same one.
            self._forms = {**(self._forms if len(self._forms) < KEPT else {}), shape: form}
        return form

    def _made(self, dialect: Dialect, given: Given) -> _Form:
        statement: Any = self.statement
        writing = isinstance(statement, Insert | Update)
        compiled = statement.compile(dialect=dialect, column_keys=[*given] if writing else None)
        expanded = compiled.construct_expanded_state(given)
        bound = {name: of for of, name in compiled.bind_names.items() if name in expanded.positiontup}
        writes = {name: of.type.dialect_impl(dialect).bind_processor(dialect) for name, of in bound.items()}
        columns = [] if writing else [*statement.selected_columns]
        reads = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
        return _Form(
            sql=expanded.statement,
            order=tuple(expanded.positiontup),
            fixed={name: of.effective_value for name, of in bound.items() if name not in given},
            writes={name: write for name, write in writes.items() if write is not None},
            reads=tuple((number, read) for number, read in enumerate(reads) if read is not None),
            row=_row([str(column.key) for column in columns]),
        )


def _driven(connection: Connection, form: _Form, *given: Given) -> tuple[list[Any], int]:
    """Return what the driver finds, and the number of the row that it added last."""
    driver: Any = connection.connection.dbapi_connection
    values = [form.values(one) for one in given]
    cursor = driver.cursor()
    try:
        if len(values) == 1:
            cursor.execute(form.sql, values[0])
        else:
            cursor.executemany(form.sql, values)
        return cursor.fetchall(), cursor.lastrowid or 0
    except sqlite3.Error as error:
        raise DBAPIError.instance(form.sql, None, error, sqlite3.Error, hide_parameters=True) from error
    finally:
        # Where a row cannot be read, it would stay open, with its snapshot, for as long as anybody keeps the error.
        cursor.close()


def _row(names: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    made: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
    make: Callable[[Sequence[Any]], Any] = made._make
    return make
