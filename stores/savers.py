"""A LangGraph checkpointer of both colours on the memory's own database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.sqlite import SqliteSaver

from learngate.stores.database import Database
from learngate.stores.group_commit import GroupCommit, Outcome, Work, each_alone

Result = TypeVar("Result")


class Threaded(BaseCheckpointSaver[Any]):
    """A saver whose async methods run its sync ones in threads: one serves `invoke` and `ainvoke` alike.

    They are threads of its own, as many as it has connections: in the event loop's own few, those that wait for
    a connection would keep the nodes of other sessions from running. What is stored while one of them
    writes is written together next: a turn stores a dozen times, and each would wait for a thread of its own.
    """

    connections = 1
    at_once = False
    """Whether a thread that has a step to write does so sooner than another one would be woken for it."""

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.connections, thread_name_prefix="learngate-checkpoints")

    @cached_property
    def _commits(self) -> GroupCommit:
        return GroupCommit(self._threads, self._write)

    def _write(self, works: Sequence[Work]) -> Sequence[Outcome]:
        """Store what came together; each is done or not by itself."""
        return each_alone(works)

    async def _run(self, work: Callable[..., Result], *given: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def close(self) -> None:
        """Close the saver's connections, once no thread of a run that was given up is using them."""
        raise NotImplementedError

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return one checkpoint."""
        return await self._run(self.get_tuple, config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Return checkpoints, newest first; all are read at once, so that one who stops half-way holds nothing."""
        return iter([*super().list(config, filter=filter, before=before, limit=limit)])

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, newest first; all are read before the first is given."""
        found = await self._run(lambda: [*self.list(config, filter=filter, before=before, limit=limit)])
        for checkpoint in found:
            yield checkpoint

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store one checkpoint."""
        stored: RunnableConfig = await self._commits.add(
            partial(self.put, config, checkpoint, metadata, new_versions)
        )
        return stored

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote before its step is complete."""
        await self._commits.add(partial(self.put_writes, config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete every checkpoint of a thread."""
        # Behind what still waits to be stored of it.
        await self._commits.add(partial(self.delete_thread, thread_id))


class LearngateSqliteSaver(Threaded, SqliteSaver):
    """LangGraph's `SqliteSaver` in both colours, its errors of the driver in our words."""

    at_once = True

    def __init__(self, database: Database) -> None:
        super().__init__(database.connect())
        self._db = database
        try:
            with self._db.translated():
                # A checkpoint can be made again from the turns in SQL; it need not wait for the disk.
                self.conn.execute("PRAGMA synchronous = NORMAL")
                self.setup()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """Open a cursor; what it writes is one transaction."""
        with self._db.translated(), super().cursor(False) as cursor:
            if not transaction:
                yield cursor
                return
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                self.conn.commit()
            except BaseException:
                self.conn.rollback()
                raise

    def close(self) -> None:
        """Close the saver's connection, once no thread of a run that was given up is using it."""
        with self.lock:
            self.conn.close()


def saver_on(database: Database) -> Threaded:
    """Return the saver for a database."""
    if database.dialect == "postgresql":
        from learngate.stores.postgres_saver import LearngatePostgresSaver

        return LearngatePostgresSaver(database)
    return LearngateSqliteSaver(database)
