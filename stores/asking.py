"""Asking what is not ours within bounds: one that is slow, broken or far away costs a search little, and seldom."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_core.embeddings import Embeddings

from learngate.stores.embedders import LocalEmbeddings, embedder_name
from learngate.stores.errors import LearngateError, StoreUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CALL_SECONDS = 5.0
"""How long an embedder that is not local may take while a search waits, its second attempt included."""
BULK_SECONDS = 60.0
"""The same for one batch where nobody waits for a search."""
PAUSE_SECONDS = 30.0
"""How long searches go without an embedder that failed, before it is asked again."""
ATTEMPTS = 2
WAIT_SECONDS = 0.2
"""Between two attempts."""
LOGGED = 2_000
"""Characters of an error that go into the log."""
HUNG_SECONDS = 600.0
"""After so long a call that has not come back is taken for lost."""
HARMLESS = "learngate"
"""A text that every embedder takes, if it takes any."""

Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)


class NotCompared(StoreUnavailable):
    """A question could not be compared with anything: what is needed for that failed, or has much to do yet."""


class NotEmbedded(NotCompared):
    """There is no vector: the embedder failed, is left alone for a while after it did, or has much to do yet."""


class Refused(NotEmbedded):
    """There is no vector of these texts, and there is one of another: it is not the embedder that is down."""


class Outsider:
    """Something that may fail or hang, and when it may be asked again. Safe under threads.

    Of one that takes one call at a time, a call that was given up is waited for before the next begins, unless it
    has hung for so long that it will not come back.
    """

    def __init__(
        self,
        name: str,
        *,
        error: type[NotCompared] = NotCompared,
        trusted: bool = False,
        one_at_a_time: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._error = error
        self._trusted = trusted
        self._one_at_a_time = one_at_a_time
        self._running: threading.Thread | None = None
        self._began = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._paused_until = float("-inf")
        self._reason = ""

    def asked(
        self,
        call: Callable[[], Answer],
        seconds: float,
        *,
        anyway: bool = False,
        harmless: Callable[[], object] | None = None,
    ) -> Answer:
        """Return what a call gives, made twice where it fails; `anyway` asks in spite of a pause.

        One that is trusted is called here, once, and waited for. A call that fails where a `harmless` one then
        succeeds is no reason for a pause.

        Raises:
            Refused: it failed at this, and not at what is harmless.
            NotCompared: it failed, took too long, or did so a moment ago.
        """
        if not anyway:
            self._refuse_while_paused()
        try:
            answer = self._called(call, seconds)
        except Exception as error:
            # Every provider has errors of its own, and none is importable without its package.
            if harmless is not None and not isinstance(error, TimeoutError) and self._takes(harmless, seconds):
                raise Refused(f"{self.name} refused it ({type(error).__name__})") from error
            raise self._error(self._failed(error)) from error
        with self._lock:
            if self._reason:
                _log.info("%s answers again", self.name)
            self._paused_until, self._reason = float("-inf"), ""
        return answer

    def _called(self, call: Callable[[], Answer], seconds: float) -> Answer:
        if self._trusted:
            return call()
        deadline = time.monotonic() + seconds
        if self._one_at_a_time and self._running is not None:
            self._running.join(seconds)
            if self._running.is_alive() and time.monotonic() - self._began < HUNG_SECONDS:
                raise TimeoutError("an earlier call has not come back yet")
        bounded = _Bounded(call, deadline)
        # A thread of its own, because no two clients take a timeout alike, and one that hangs must not
        # keep the process from ending.
        self._running = threading.Thread(target=bounded.work, name="learngate-outsider", daemon=True)
        self._began = time.monotonic()
        self._running.start()
        return bounded.answer(seconds)

    def _takes(self, harmless: Callable[[], object], seconds: float) -> bool:
        try:
            self._called(harmless, seconds)
        except Exception:  # noqa: BLE001 - what is said is why it failed at first
            return False
        return True

    def _refuse_while_paused(self) -> None:
        with self._lock:
            left = self._paused_until - self._clock()
            if left > 0:
                raise self._error(f"{self._reason}; it is asked again in {left:.0f} s")

    def _failed(self, error: Exception) -> str:
        # What a provider says may hold a key or an address, and a note is kept with the turn; our own words do not.
        said = " ".join(f"{type(error).__name__}: {error}".split())
        failed = f"{self.name} did not answer"
        ours = isinstance(error, LearngateError)
        reason = f"{failed} ({said})" if ours else f"{failed} ({type(error).__name__}): see the log"
        with self._lock:
            known = self._clock() < self._paused_until
            self._paused_until, self._reason = self._clock() + PAUSE_SECONDS, reason
        # Of those who asked at once, one says it.
        _log.log(
            logging.DEBUG if known else logging.WARNING,
            "%s (%s): searches go by words for %.0f s",
            failed,
            said[:LOGGED],
            PAUSE_SECONDS,
        )
        return reason


class Asking:
    """One embedder, asked for vectors."""

    def __init__(self, embedder: Embeddings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._embedder = embedder
        # Two, because questions go on where texts fail: most searches lack no vector of a text.
        self.queries, self.texts = (
            Outsider(
                f"the embedder {embedder_name(embedder)}",
                error=NotEmbedded,
                trusted=isinstance(embedder, LocalEmbeddings),
                clock=clock,
            )
            for _ in range(2)
        )
        # Of a question's vector, once there was one: what is compared with it has the same.
        self._length: int | None = None

    def query(self, text: str) -> NDArray[np.float32]:
        """Return the raw vector of a query.

        Raises:
            NotEmbedded: the embedder failed, took too long, or did so a moment ago.
        """
        vector = self.queries.asked(lambda: _shaped([self._embedder.embed_query(text)], 1), CALL_SECONDS)
        self._length = vector.shape[1]
        return vector

    def documents(self, texts: Sequence[str], *, bulk: bool = False) -> NDArray[np.float32]:
        """Return the raw vectors of texts, in their order; `bulk` is patient, and asks in spite of a pause.

        Raises:
            Refused: the embedder failed at these, and not at a harmless text.
            NotEmbedded: the embedder failed, took too long, or did so a moment ago.
        """

        def embed(given: Sequence[str]) -> NDArray[np.float32]:
            return _shaped(self._embedder.embed_documents([*given]), len(given), self._length)

        return self.texts.asked(
            lambda: embed(texts),
            BULK_SECONDS if bulk else CALL_SECONDS,
            anyway=bulk,
            harmless=lambda: embed([HARMLESS]),
        )


class _Bounded(Generic[Answer]):
    """A call that is made, and once more where it fails, until a moment; then nobody waits for it any longer."""

    def __init__(self, call: Callable[[], Answer], deadline: float) -> None:
        self._call = call
        self._deadline = deadline
        self._done = threading.Event()
        self._answers: list[Answer] = []
        self._errors: list[BaseException] = []

    def work(self) -> None:
        """Make the call, in a thread."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._answers.append(self._call())
                break
            except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                last = attempt == ATTEMPTS or not isinstance(error, Exception)
                if last or time.monotonic() + WAIT_SECONDS > self._deadline:
                    self._errors.append(error)
                    break
                # Set by nobody else before the end: this is how long to wait.
                self._done.wait(WAIT_SECONDS)
        self._done.set()

    def answer(self, seconds: float) -> Answer:
        """Return what the call gave, or raise what it raised."""
        if not self._done.wait(max(0.0, self._deadline - time.monotonic())):
            raise TimeoutError(f"nothing came within {seconds:g} s")
        if self._errors:
            raise self._errors[0]
        return self._answers[0]


def _shaped(raw: list[list[float]], size: int, length: int | None = None) -> NDArray[np.float32]:
    import numpy as np

    vectors = np.asarray(raw, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != size or vectors.shape[1] == 0:
        raise ValueError(f"it gave vectors of shape {vectors.shape} for {size} texts")
    if length is not None and vectors.shape[1] != length:
        raise ValueError(f"it gave {vectors.shape[1]} numbers for a text and {length} for a question")
    if not np.isfinite(vectors).all():
        raise ValueError("it gave vectors with numbers that are none, or infinite")
    return vectors
