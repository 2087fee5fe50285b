"""Work that Ctrl-C stops, even where it waits for something that never comes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """Ctrl-C stopped the work."""


class Stoppable:
    """Runs coroutines one after the other, on one event loop; Ctrl-C cancels the one that runs.

    Async, because only there can a call that hangs be given up: a thread cannot be stopped.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Threads())
        self._task: asyncio.Task[Any] | None = None

    def run(self, work: Coroutine[Any, Any, T], *, on_ctrl_c: Callable[[], None] | None = None) -> T:
        """Run a coroutine to its end; Ctrl-C calls `on_ctrl_c`, by default `stop`.

        Raises:
            Stopped: it was stopped.
        """
        self._task = self._loop.create_task(work)
        act = on_ctrl_c or self.stop
        with _on_ctrl_c(lambda: self._loop.call_soon_threadsafe(act)):
            try:
                result: T = self._loop.run_until_complete(self._task)
            except asyncio.CancelledError:
                raise Stopped from None
        return result

    def stop(self) -> None:
        """Cancel what runs."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Close the event loop; a call that was given up is not waited for."""
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class _Threads(ThreadPoolExecutor):
    """Threads that nobody waits for at the end.

    A client without an async side is called in a thread, and a call that hangs there would keep the process.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a thread of its own."""
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is the caller's, and raised again there
                future.set_exception(error)

        threading.Thread(target=run, name="learngate", daemon=True).start()
        return future


@contextmanager
def _on_ctrl_c(act: Callable[[], object]) -> Iterator[None]:
    """Call `act` on Ctrl-C instead of raising somewhere in the middle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_signal: int, _frame: FrameType | None) -> None:
        act()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
