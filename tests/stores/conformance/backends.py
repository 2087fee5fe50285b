"""What the contracts of the stores are bound to: SQLite in memory, SQLite in a file, PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine

from learngate.stores import Memory, open_memory
from learngate.stores.embedders import WordLlamaEmbeddings
from tests.databases import database
from tests.stores.support import Hashed, check_index


class InMemory:
    """One program, and a database that goes with it."""

    @pytest.fixture
    def memory(self, embedder: WordLlamaEmbeddings) -> Iterator[Memory]:
        with open_memory("sqlite://", embedder=embedder) as opened:
            yield opened


class InFile:
    """A file that several programs may open."""

    kind = "sqlite"

    @pytest.fixture
    def url(self, tmp_path: Path) -> Iterator[str]:
        with database(self.kind, tmp_path) as made:
            yield made

    @pytest.fixture
    def memory(self, url: str, embedder: WordLlamaEmbeddings) -> Iterator[Memory]:
        with open_memory(url, embedder=embedder) as opened:
            yield opened


class OnPostgres(InFile):
    """A server's database."""

    kind = "postgres"


class Machine(RuleBasedStateMachine):
    """A state machine over a memory of a kind: "memory", "sqlite" or "postgres"."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.url = "sqlite://"
        if self.kind != "memory":
            folder = self.open.enter_context(tempfile.TemporaryDirectory())
            self.url = self.open.enter_context(database(self.kind, Path(folder)))
        self.memory = self.program()

    def program(self) -> Memory:
        """Open the memory once more, as another program does; in memory there is one only."""
        if self.kind == "memory" and hasattr(self, "memory"):
            return self.memory
        return self.open.enter_context(open_memory(self.url, embedder=Hashed()))

    def teardown(self) -> None:
        """Check the search index, and close everything."""
        with self.open:
            check_index(self.memory)


def bound(machine: type[Machine], kind: str, *, share: float, steps: int) -> Any:
    """Return the test that runs a machine on a kind of database, a share of the profile's examples."""
    case = type(f"{machine.__name__}_{kind}", (machine,), {"kind": kind}).TestCase
    examples = max(2, int(settings().max_examples * share))
    case.settings = settings(max_examples=examples, stateful_step_count=steps)
    return case
