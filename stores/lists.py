"""Lists in statements: given when they run, and long ones a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, bindparam

Value = TypeVar("Value")

PART = 10_000
"""Well below the parameters that a statement may have: 65,535 on PostgreSQL, 32,766 on SQLite."""


def parts(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Yield the values in their order, as many at a time as a statement takes; nothing for none."""
    every = [*values]
    for start in range(0, len(every), PART):
        yield every[start : start + PART]


def among(column: ColumnElement[Any], name: str = "ids") -> ColumnElement[bool]:
    """Return the condition that a column is one of a list, which a statement is given under this name."""
    return column.in_(bindparam(name, expanding=True))
