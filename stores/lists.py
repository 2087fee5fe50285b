"""Long lists in statements: a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Value = TypeVar("Value")

PART = 10_000
"""Well below the parameters that a statement may have: 65,535 on PostgreSQL, 32,766 on SQLite."""


def parts(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Yield the values in their order, as many at a time as a statement takes; nothing for none."""
    every = [*values]
    for start in range(0, len(every), PART):
        yield every[start : start + PART]
