"""Several processes that do things at the very same moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from learngate.stores import Memory
from learngate.stores.errors import AlreadyDecided
from tests.graph.support import opened
from tests.reliability.counting import processes

PATIENCE = 100.0
"""Seconds after which a process that does not come is an error of the test."""


@dataclass(frozen=True)
class Outcome:
    """What a call returned, or what it raised: `error` is the class's name, `winner` whoever was first."""

    value: Any = None
    error: str | None = None
    said: str = ""
    winner: str | None = None


class Crew:
    """Worker processes behind a barrier, from `with` to its end."""

    def __init__(self, size: int) -> None:
        # Kept: its semaphores are gone with it, and a worker unpacks them only when it begins.
        self._barrier = processes.Barrier(size)
        self._ends = []
        self._workers = []
        for _ in range(size):
            here, there = processes.Pipe()
            worker = processes.Process(target=work, args=(there, self._barrier), daemon=True)
            worker.start()
            there.close()
            self._ends.append(here)
            self._workers.append(worker)

    def do(self, calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Outcome]:
        """Let each worker make one of the calls, all at once; return what came of each."""
        assert len(calls) == len(self._workers)
        for end, one in zip(self._ends, calls, strict=True):
            end.send(one)
        outcomes = []
        for end in self._ends:
            assert end.poll(PATIENCE), "a process hangs"
            outcomes.append(end.recv())
        return outcomes

    def all(self, call: Callable[..., Any], *arguments: Any) -> list[Outcome]:
        """Let every worker make the same call; each is told its number first."""
        return self.do([(call, (number, *arguments)) for number in range(len(self._workers))])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for end in self._ends:
            with suppress(BrokenPipeError):
                end.send(None)
            end.close()
        for worker in self._workers:
            worker.join(5)
            worker.kill()
            worker.join()


_open: dict[str, Memory] = {}
_barriers: list[Any] = []


def meet() -> None:
    """Wait, in the middle of a call, until every worker is there."""
    _barriers[0].wait(PATIENCE)


def at(url: str) -> Memory:
    """Return this process's memory at a URL; it stays open for the next call."""
    if url not in _open:
        for old in _open.values():
            old.close()
        _open.clear()
        _open[url] = opened(url)
    return _open[url]


def arrive(_: int, url: str) -> None:
    """Open the memory, so that the next call of the crew begins at once."""
    at(url).checkpointer()


def work(end: Any, barrier: Any) -> None:
    _barriers.append(barrier)
    while (job := end.recv()) is not None:
        call, arguments = job
        barrier.wait(PATIENCE)
        end.send(attempt(call, arguments))
    for memory in _open.values():
        memory.close()


def attempt(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    try:
        return Outcome(call(*arguments))
    except AlreadyDecided as late:
        return Outcome(error="AlreadyDecided", said=str(late), winner=late.decision.reviewer)
    except Exception as error:  # noqa: BLE001 - it is handed to the scenario, which judges it
        return Outcome(error=type(error).__name__, said=str(error))
