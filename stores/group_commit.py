"""Group commit: what many runs store at the same moment is handed to one thread and written together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from threading import Lock
from typing import Any

from learngate.stores.errors import StoreUnavailable

Work = Callable[[], Any]
Waiting = tuple[Work, asyncio.Future[Any]]
Outcome = tuple[Any, BaseException | None]
"""What a piece of work returned, or what it raised."""


def each_alone(works: Sequence[Work]) -> Sequence[Outcome]:
    """Do one after the other; once the database was out of reach for two in a row, no more.

    Each takes long to say so. One alone may have waited for a lock that concerns nobody else.
    """
    outcomes: list[Outcome] = []
    lost: list[StoreUnavailable] = []
    for work in works:
        if len(lost) == 2:
            outcomes.append((None, lost[-1]))
            continue
        try:
            outcomes.append((work(), None))
            lost = []
        except StoreUnavailable as error:
            lost.append(error)
            outcomes.append((None, error))
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
            outcomes.append((None, error))
    return outcomes


class GroupCommit:
    """Collects the work of coroutines while a thread writes, and hands all of it to the next that is free."""

    def __init__(self, threads: Executor, write: Callable[[Sequence[Work]], Sequence[Outcome]]) -> None:
        self._threads = threads
        self._write = write
        self._waiting: list[Waiting] = []
        self._writing = False
        self._lock = Lock()

    def add(self, work: Work) -> asyncio.Future[Any]:
        """Return the future of a piece of work, which is done together with whatever else waits.

        What is cancelled before its turn is not done.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((work, done))
            begins = not self._writing
            self._writing = True
        if begins:
            self._begin()
        return done

    def _begin(self) -> None:
        try:
            self._threads.submit(self._write_waiting)
        except BaseException as error:  # noqa: BLE001 - no thread will come: whoever waits hears why
            with self._lock:
                left, self._waiting = self._waiting, []
                self._writing = False
            _answer(left, [(None, error)] * len(left))

    def _write_waiting(self) -> None:
        with self._lock:
            taken = [one for one in self._waiting if not one[1].cancelled()]
            self._waiting = []
        try:
            outcomes = self._write([work for work, _ in taken])
        except BaseException as error:  # noqa: BLE001 - nobody waits for this thread, but for what it was given
            outcomes = [(None, error)] * len(taken)
        _answer(taken, outcomes)
        with self._lock:
            self._writing = more = bool(self._waiting)
        if more:
            # At the end of the line: what reads checkpoints waits for the same threads.
            self._begin()


def _answer(waiting: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
    told = defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Outcome]]](list)
    for (_, done), outcome in zip(waiting, outcomes, strict=True):
        told[done.get_loop()].append((done, outcome))
    for loop, its in told.items():
        # A loop that was closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_tell, its)


def _tell(told: Sequence[tuple[asyncio.Future[Any], Outcome]]) -> None:
    for done, (result, error) in told:
        if done.cancelled():
            continue
        if error is None:
            done.set_result(result)
        else:
            # A future takes no StopIteration.
            done.set_exception(RuntimeError(str(error)) if isinstance(error, StopIteration) else error)
