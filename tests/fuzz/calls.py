"""Makes every public call of the stores with anything for an argument, and looks at what it leaves behind."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from learngate.stores import Decision, LearngateError, Memory, StoreError, open_memory, tables
from learngate.stores.learnings import Learnings
from learngate.stores.sessions import Sessions
from learngate.stores.users import Users
from learngate.stores.verify import all_faults
from tests.databases import new_postgres
from tests.fuzz.values import SOUND, some_odd
from tests.stores.support import Hashed, check_index, draft, turn

KEY = "0123456789abcdef" * 4
STORES = {"sessions": Sessions, "users": Users, "learnings": Learnings}
CALLS = [
    (store, name)
    for store, kind in STORES.items()
    for name, method in vars(kind).items()
    if inspect.isfunction(method) and not name.startswith("_")
]
ROWS = {
    table.name: f"SELECT * FROM {table.name} ORDER BY {', '.join(table.primary_key.columns.keys())}"
    for table in tables.metadata.sorted_tables
    if table.name != "embeddings"
}
FRESH_AFTER = 100
"""After so many calls that wrote something the memory starts anew, so that it stays small."""


@dataclass
class Tally:
    """What came of the calls of one method."""

    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    @property
    def tries(self) -> int:
        """How many calls there were."""
        return self.done + sum(self.refused.values()) + len(self.found)


class Fuzzed:
    """A memory that knows a few things, and is looked at after each call."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._close: Any = None
        self._writes = 0

    @property
    def memory(self) -> Memory:
        """Return the memory; a new one, with its first rows, where there is none."""
        if self._close is None or self._writes >= FRESH_AFTER:
            self.close()
            self._close = fuzzed_memory(self._kind)
            self._memory: Memory = self._close.__enter__()
            self._writes = 0
            seed(self._memory)
            self.rows = rows(self._memory)
        return self._memory

    def close(self) -> None:
        """Check the memory as a whole, and close it."""
        if self._close is None:
            return
        try:
            assert [*all_faults(self._memory.ledger)] == []
            check_index(self._memory)
        finally:
            closing, self._close = self._close, None
            closing.__exit__(None, None, None)

    def call(
        self, tally: Tally, store: str, name: str, given: list[Any], named: dict[str, Any], sound: bool
    ) -> None:
        """Make one call; note what it came to, and what it should not have."""
        method = getattr(getattr(self.memory, store), name)
        problem = None
        try:
            method(*given, **named)
        except StoreError as error:
            # Nothing is wrong with this database: whatever was given should have been refused at the door.
            problem = f"{type(error).__name__}: {error}"
        except LearngateError as error:
            tally.refused[type(error).__name__] += 1
        except TypeError as error:
            if sound:
                problem = f"TypeError: {error}"
            else:
                tally.refused["TypeError"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            problem = f"{type(error).__name__}: {error}"
        else:
            tally.done += 1
            self._note_writes()
            return
        if problem is None and rows(self.memory) != self.rows:
            problem = "it was refused, and has written something"
        if problem is not None:
            tally.found.append(f"{store}.{name}(*{shown(given)}, **{shown(named)}): {problem[:300]}")
            self._note_writes()

    def _note_writes(self) -> None:
        after = rows(self.memory)
        self._writes += after != self.rows
        self.rows = after


def seed(memory: Memory) -> None:
    """Put something into a memory, for calls to meet."""
    for name, more in (("q1", {}), ("q2", {"reflection": "pending"}), ("q3", {"noted": {"operations": []}})):
        memory.sessions.append(turn("s", f"question {name}", id=name, user_id="ana", **more))
    memory.sessions.append(turn("other", "hello", id="q1"))
    memory.users.remember("ana", "likes tea")
    memory.users.remember("ben", "likes tea", pinned=True)
    memory.learnings.add(draft("mind costs"), namespace="acme", actor="ana")
    memory.learnings.propose(draft("check fees"), namespace="acme", user_id="ana", source=("s", "q1"))
    memory.learnings.propose(draft("check taxes"), namespace="acme/finance")
    memory.learnings.retire(1, actor="ana")
    memory.learnings.decide(2, Decision.approve(), reviewer="rev")


def rows(memory: Memory) -> dict[str, list[Any]]:
    """Return every row but the vectors, which searching makes."""
    with memory.database.read() as connection:
        cursor = connection.connection.cursor()
        return {name: cursor.execute(query).fetchall() for name, query in ROWS.items()}


@st.composite
def arguments(draw: Any, method: Callable[..., Any]) -> tuple[list[Any], dict[str, Any], bool]:
    """Draw the arguments of a call, and whether there are as many of them as it takes."""
    taken = [*inspect.signature(method).parameters.values()][1:]
    taken = [one for one in taken if one.default is one.empty or draw(st.booleans())]
    values = draw(some_odd({one.name: SOUND[one.name] for one in taken}))
    by_name = {one.name for one in taken if one.kind is one.KEYWORD_ONLY or one.default is not one.empty}
    given = [value for name, value in values.items() if name not in by_name]
    named = {name: value for name, value in values.items() if name in by_name}
    slip = draw(st.sampled_from([*[""] * 40, "more", "unknown", "fewer"]))
    if slip == "more":
        given += [1] * 12
    elif slip == "unknown":
        named["nonsense"] = 1
    elif slip == "fewer":
        given, named = [], {}
    return given, named, not slip


def fuzz(fuzzed: Fuzzed, store: str, name: str, examples: int, *, derandomize: bool = False) -> Tally:
    """Make a number of calls of one method."""
    tally = Tally()
    method = getattr(STORES[store], name)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(arguments(method))
    def run(made: tuple[list[Any], dict[str, Any], bool]) -> None:
        fuzzed.call(tally, store, name, *made)

    run()
    return tally


@contextmanager
def fuzzed_memory(kind: str) -> Iterator[Memory]:
    """Open an empty memory to call, on SQLite or PostgreSQL; what is learned in it is signed."""
    place = nullcontext("sqlite://") if kind == "sqlite" else new_postgres()
    with place as url, open_memory(url, embedder=Hashed(), audit_key=KEY) as memory:
        yield memory


def shown(value: Any) -> str:
    """Return a value as it is written, shortened."""
    try:
        said = repr(value)
    except RecursionError:
        said = "too deep to show"
    return said if len(said) < 600 else f"{said[:600]}…"
