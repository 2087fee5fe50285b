"""The assembly: one database, one embedder, and the three memories on them."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from langchain_core.embeddings import Embeddings

from learngate.stores.audit import Ledger
from learngate.stores.database import Database
from learngate.stores.embedders import Floor, chosen_embedder
from learngate.stores.embeddings import Vectors
from learngate.stores.erasing import Fate, Receipt, ThreadSaver, erase_user
from learngate.stores.errors import ConfigurationError, Conflict
from learngate.stores.hybrid import HybridSearch
from learngate.stores.keys import find_head, find_key
from learngate.stores.learnings import Learnings
from learngate.stores.meaning import Leg, Meaning
from learngate.stores.migrations import migrate
from learngate.stores.protocols import IndexOn, VectorIndex
from learngate.stores.sessions import Sessions
from learngate.stores.users import Users
from learngate.stores.vectors import FaissIndex

if TYPE_CHECKING:
    from learngate.stores.records import Imported
    from learngate.stores.savers import Threaded

DEFAULT_URL = "sqlite:///learngate.db"


class Memory:
    """The three memories of one database; open it with `open_memory`, close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        *,
        embedder: Embeddings,
        index: IndexOn | None = None,
        dense_floor: float | None = None,
        audit_key: str | None = None,
    ) -> None:
        self.database = Database(url)
        try:
            self.ledger = Ledger(self.database, find_key(self.database, audit_key), find_head(self.database))
            self.schema = migrate(self.database)
        except BaseException:
            self.database.close()
            raise
        self.vectors = Vectors(self.database, embedder)
        floor = self.vectors.floor if dense_floor is None else Floor(dense_floor)
        self._index = (index or index_on)(self.database, self.vectors)
        leg = Leg(self.vectors, self._index, floor)
        self._meaning = Meaning(self.database, leg, self._leg)
        search = HybridSearch(self.database, self._meaning)
        self.sessions = Sessions(self.database, search, forget_thread=self._forget_thread)
        self.users = Users(self.database, search)
        self.learnings = Learnings(self.database, search, self.ledger)
        self._saver: Threaded | None = None
        self._lock = threading.Lock()

    def checkpointer(self) -> Threaded:
        """Return the LangGraph checkpointer on the same database, for sync and async runs alike."""
        with self._lock:
            if self._saver is None:
                from learngate.stores.savers import saver_on

                self._saver = saver_on(self.database)
            return self._saver

    def erase(
        self,
        user_id: str,
        *,
        savers: Sequence[ThreadSaver] = (),
        learnings: Fate = "keep",
        actor: str | None = None,
    ) -> Receipt:
        """Erase a user: memories, sessions, quotes, what waits at the gate, and what the disk still holds of it.

        The memory's own checkpoints go, too, and those of the `savers` given. Approved learnings keep their text
        and lose the link; `learnings="retire"` takes those that came of the user's turns out of recall, by
        `actor`. Nobody can open the sessions again. Erasing again is harmless, and finishes what was killed.

        Raises:
            InvalidInput: no user, or a fate of the learnings that cannot be.
        """
        return erase_user(
            self.ledger,
            user_id,
            savers=[self.checkpointer(), *savers],
            sweep=self._meaning.sweep,
            learnings=learnings,
            actor=actor,
        )

    def export(
        self, *, user_id: str | None = None, namespace: str | None = None, unverified: bool = False
    ) -> Iterator[bytes]:
        """Yield everything as JSON Lines, all of one moment; `stores/exporting.py` describes the format.

        With `user_id` it is one person's sessions, turns and memories, with `namespace` what is learned there
        and below.

        Raises:
            InvalidInput: a user or a namespace that cannot be one.
            Conflict: what is learned is not what was signed; `unverified=True` exports it as it is.
        """
        from learngate.stores.exporting import exported
        from learngate.stores.verify import all_faults

        if not unverified and (user_id is None or namespace is not None):
            fault = next(all_faults(self.ledger), None)
            if fault is not None:
                raise Conflict(f"not exported: {fault.where}: {fault.says}; see `learngate doctor --verify`")
        return exported(self.database, user_id=user_id, namespace=namespace)

    def load(
        self, file: IO[bytes], *, actor: str, progress: Callable[[int, int], None] = lambda _done, _of: None
    ) -> Imported:
        """Import what `export` gave, from this database or another: all of it or nothing, and each row once.

        `actor` is who brings it; `progress` is told how many lines were read, of how many.

        Raises:
            InvalidInput: no export, or one that was cut off or changed.
            Conflict: a session is somebody else's here, or a learning was changed both here and there.
        """
        from learngate.stores.importing import imported

        return imported(self.ledger, file, actor=actor, progress=progress)

    def backup(self, path: str | Path, *, progress: Callable[[int, int], None] = lambda _done, _of: None) -> int:
        """Copy the database into a new file, all of one moment, while others write; return its size in bytes.

        Raises:
            ConfigurationError: it is not SQLite; the message has the command to use instead.
            InvalidInput: the file is there already, or cannot be written.
        """
        from learngate.stores.backup import back_up

        return back_up(self.database, Path(path), progress=progress)

    def embed(self) -> Iterator[tuple[int, int]]:
        """Embed all that has no vector of the embedder yet; yield how many rows are done, of how many.

        Searches make what they lack themselves; this is for much of it at once, above all after a change of
        the embedder. Each batch is stored: whoever is stopped, or killed, goes on where they were.

        Raises:
            StoreUnavailable: the embedder failed; what it gave before is stored.
        """
        yield from self._index.fill(self.vectors.dimensions())

    def close(self) -> None:
        """Close every connection. Closing twice is harmless."""
        if self._saver is not None:
            self._saver.close()
        self.database.close()

    def _leg(self, embedder: Embeddings) -> Leg:
        vectors = Vectors(self.database, embedder)
        return Leg(vectors, index_on(self.database, vectors), vectors.floor)

    def _forget_thread(self, thread_id: str) -> None:
        self.checkpointer().delete_thread(thread_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def index_on(database: Database, vectors: Vectors) -> VectorIndex:
    """Return the dense search that goes with a kind of database."""
    if database.dialect == "postgresql":
        from learngate.stores.pgvector import PgvectorIndex

        return PgvectorIndex(database, vectors)
    return FaissIndex(database, vectors)


def refuse_options(index: object, dense_floor: object) -> None:
    """Refuse what can be no index, and what can be no floor.

    Raises:
        ConfigurationError: with what to give.
    """
    if index is not None and not _takes_two(index):
        raise ConfigurationError(f"index takes in_vector_store(…), or nothing, not {index!r:.80}")
    if dense_floor is None:
        return
    # True is a number to Python; and what is no number is neither above nor below.
    if isinstance(dense_floor, bool) or not isinstance(dense_floor, Real) or not 0 <= float(dense_floor) <= 1:
        raise ConfigurationError(f"dense_floor takes a cosine, a number from 0 to 1, not {dense_floor!r:.80}")


def _takes_two(index: object) -> bool:
    """Return whether it can be called with a database and its vectors."""
    if not callable(index):
        return False
    try:
        inspect.signature(index).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def open_memory(
    url: str | None = None,
    *,
    embedder: Embeddings | str | None = None,
    index: IndexOn | None = None,
    dense_floor: float | None = None,
    audit_key: str | None = None,
) -> Memory:
    """Open the memory in a database, bringing its schema up to date.

    `url` defaults to `$LEARNGATE_DB`, else `sqlite:///learngate.db`; `"sqlite://"` is a database in memory,
    for tests. `embedder` is any LangChain `Embeddings`, or `"minilm"` (the extra `embed`) or `"wordllama"`;
    by default `$LEARNGATE_EMBEDDER`, else WordLlama, which needs no network. `index` is where vectors are
    searched: `in_vector_store(…)`, by default this process's memory, or PostgreSQL itself. `dense_floor` is the
    cosine below which a hit is noise, where the embedder's own does not fit. `audit_key` signs what is learned, so
    that whoever changes it past the gate is noticed: by default `$LEARNGATE_AUDIT_KEY`, else what is in the file
    `learngate.db.key` beside the database, else nothing is signed.

    Raises:
        ConfigurationError: the URL names no database that learngate speaks to, the embedder's package is not
            installed, the key is no good, or an option cannot be.
        StoreUnusable: it is a folder, not a database, of a newer schema, or another program's.
        StoreUnavailable: it is locked or read-only.
    """
    refuse_options(index, dense_floor)
    if url == "":
        raise ConfigurationError(
            "an empty text names no database: leave the URL out for $LEARNGATE_DB, or for learngate.db"
        )
    chosen = url or os.environ.get("LEARNGATE_DB") or DEFAULT_URL
    return Memory(
        chosen, embedder=chosen_embedder(embedder), index=index, dense_floor=dense_floor, audit_key=audit_key
    )
