"""What a scenario counts, where it keeps its databases, and how a child process is made."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy import make_url

from tests.databases import server
from tests.graph.support import opened

# Forked from a server that has imported everything, so that a child costs a moment and not seconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.reliability.preload"])


@dataclass(frozen=True)
class Count:
    """What went wrong in so many tries; `problems` says the first of it in words.

    `lost` was acknowledged and is not there. `doubled` took effect twice. `half` is there in part, or changed.
    `leaked` reached somebody else. `silent` went wrong and nobody was told, or not what happened.
    """

    tries: int = 0
    lost: int = 0
    doubled: int = 0
    half: int = 0
    leaked: int = 0
    silent: int = 0
    problems: tuple[str, ...] = field(default=(), compare=False)

    def __add__(self, other: Count) -> Count:
        sums = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        return Count(**(sums | {"problems": sums["problems"][:20]}))

    @property
    def wrong(self) -> int:
        """How much went wrong in all."""
        return self.lost + self.doubled + self.half + self.leaked + self.silent


class Tally:
    """Takes what is found wrong in one try, in words."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._problems: list[str] = []

    def note(self, kind: str, problem: str, number: int = 1) -> None:
        self._found[kind] += number
        self._problems.append(f"{kind}: {problem}")

    def check(self, good: object, kind: str, problem: str) -> None:
        if not good:
            self.note(kind, problem)

    def count(self, tries: int = 1) -> Count:
        return Count(tries, **self._found, problems=tuple(self._problems))


class Databases(Protocol):
    """A kind of database, of which a scenario takes as many as it needs."""

    name: str

    def new(self) -> str:
        """Return the URL of one that is empty."""

    def ready(self) -> str:
        """Return the URL of one that has its tables."""

    def copy(self, url: str) -> str:
        """Return the URL of a copy of one that nobody has open."""

    def drop(self, url: str) -> None:
        """Delete one that is not needed any more, whoever still has it open."""


class Files:
    """SQLite files in a folder."""

    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def new(self) -> str:
        self._made += 1
        return f"sqlite:///{self._folder / f'{self._made}.db'}"

    def ready(self) -> str:
        return self.new()

    def copy(self, url: str) -> str:
        made = self.new()
        path_of(made).write_bytes(path_of(url).read_bytes())
        return made

    def drop(self, url: str) -> None:
        for file in self._folder.glob(f"{path_of(url).name}*"):
            file.unlink()


class Servers:
    """Databases on the PostgreSQL server that tests run on."""

    name = "PostgreSQL"

    def __init__(self) -> None:
        self._made: set[str] = set()
        self._ready: str | None = None

    def new(self) -> str:
        return self._create(f"TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE {QUOTED} ENCODING 'UTF8'")

    def ready(self) -> str:
        if self._ready is None:
            self._ready = self.new()
            with opened(self._ready) as memory:
                memory.checkpointer()
        return self.copy(self._ready)

    def copy(self, url: str) -> str:
        return self._create(f"TEMPLATE {name_of(url)}")

    def run(self, statement: str) -> None:
        """Run a statement as whoever runs the server."""
        import psycopg

        with psycopg.connect(server().render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(statement.encode())

    def end(self, pid: int, *, kill: bool) -> None:
        """End one of the server's processes; killed, it takes all others with it, and the server recovers."""
        if kill and not os.environ.get("LEARNGATE_TEST_POSTGRES"):
            os.kill(pid, signal.SIGKILL)
            # Until the server has noticed it goes on as if nothing had been.
            for _ in range(600):
                if not Path("/proc", str(pid)).exists():
                    return
                time.sleep(0.05)
        else:
            self.run(f"SELECT pg_terminate_backend({pid})")

    def wait(self) -> None:
        """Wait until the server takes connections again."""
        import psycopg

        for attempt in range(600):
            try:
                self.run("SELECT 1")
            except psycopg.OperationalError:
                if attempt == 599:
                    raise
                time.sleep(0.05)
            else:
                return

    def _create(self, how: str) -> str:
        name = f"learngate_{uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name} {how}")
        self._made.add(name)
        url = server().set(drivername="postgresql+psycopg", database=name)
        return url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Drop what is left."""
        for name in [*self._made]:
            self._drop(name)

    def drop(self, url: str) -> None:
        self._drop(name_of(url))

    def _drop(self, name: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.discard(name)


# A locale with letters beyond ASCII, whatever the machine's own is.
QUOTED = "'C.UTF-8'"


def name_of(url: str) -> str:
    """Return the name of a PostgreSQL database."""
    return str(make_url(url).database)


def path_of(url: str) -> Path:
    """Return the file of an SQLite database."""
    return Path(url.removeprefix("sqlite:///"))


Run = Callable[[Databases, int], Iterator[Count]]


@dataclass(frozen=True)
class Scenario:
    """Something that may go wrong, tried over and over: each try is one `Count`."""

    name: str
    run: Run
    long: int
    """How many rounds the long version has."""
    sample: int = 1
    only: str | None = None
    """The one kind of database that it can happen to."""


def made(scenarios: list[Scenario], long: int, **more: Any) -> Callable[[Run], Run]:
    """Add a function to a list of scenarios; its docstring's first line is the scenario's name."""

    def add(run: Run) -> Run:
        assert run.__doc__ is not None
        scenarios.append(Scenario(run.__doc__.splitlines()[0].rstrip("."), run, long, **more))
        return run

    return add
