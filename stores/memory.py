"""The assembly: one database, one embedder, and the three memories on them."""

from __future__ import annotations

import asyncio
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from langchain_core.embeddings import Embeddings

from learngate.stores.database import Database
from learngate.stores.embedders import WordLlamaEmbeddings
from learngate.stores.embeddings import Vectors
from learngate.stores.hybrid import DENSE_FLOOR, HybridSearch
from learngate.stores.learnings import Learnings
from learngate.stores.migrations import migrate
from learngate.stores.sessions import Sessions
from learngate.stores.users import Users

if TYPE_CHECKING:
    from learngate.stores.savers import LearngateSaver

DEFAULT_URL = "sqlite:///learngate.db"


class Memory:
    """The three memories of one database; open it with `open_memory`, close it, or use it in a `with`."""

    def __init__(self, url: str, *, embedder: Embeddings, dense_floor: float) -> None:
        self.database = Database(url)
        try:
            self.schema = migrate(self.database)
        except BaseException:
            self.database.close()
            raise
        self.vectors = Vectors(self.database, embedder)
        search = HybridSearch(self.database, self.vectors, dense_floor=dense_floor)
        self.sessions = Sessions(self.database, forget_thread=self._forget_thread)
        self.users = Users(self.database, search)
        self.learnings = Learnings(self.database, search)
        self._saver: LearngateSaver | None = None
        self._lock = threading.Lock()

    def checkpointer(self) -> LearngateSaver:
        """Return the LangGraph checkpointer on the same database, for sync and async runs alike."""
        with self._lock:
            if self._saver is None:
                from learngate.stores.savers import LearngateSaver

                self._saver = LearngateSaver(self.database)
            return self._saver

    def close(self) -> None:
        """Close every connection. Closing twice is harmless."""
        if self._saver is not None:
            self._saver.close()
        self.database.close()

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


def open_memory(
    url: str | None = None, *, embedder: Embeddings | None = None, dense_floor: float = DENSE_FLOOR
) -> Memory:
    """Open the memory in a database, bringing its schema up to date.

    `url` defaults to `$LEARNGATE_DB`, else `sqlite:///learngate.db`; `"sqlite://"` is a database in memory,
    for tests. `embedder` is any LangChain `Embeddings`, by default WordLlama, which needs no network;
    `dense_floor` is the cosine below which a hit is noise for that embedder.

    Raises:
        ConfigurationError: the URL names no database that learngate speaks to.
        StoreUnusable: it is a folder, not a database, of a newer schema, or another program's.
        StoreUnavailable: it is locked or read-only.
    """
    chosen = url or os.environ.get("LEARNGATE_DB") or DEFAULT_URL
    return Memory(chosen, embedder=embedder or WordLlamaEmbeddings(), dense_floor=dense_floor)
