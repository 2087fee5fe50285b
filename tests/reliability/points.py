"""Fault points by name: every write that a process makes, and death at one of them."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

from learngate.stores import Memory, prepared

WRITE = re.compile(r'\s*(INSERT|UPDATE|DELETE)(?: OR \w+)?(?: INTO| FROM)?\s+"?(?:main"?\.)?"?(\w+)', re.IGNORECASE)


class Points:
    """Names a process's writes as it makes them, such as "before INSERT turns #1"; kills it at one."""

    def __init__(self, fatal: str | None = None) -> None:
        self.fatal = fatal
        self.reached: list[str] = []
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._transaction = threading.local()

    def watch(self, memory: Memory) -> None:
        """Name every write from now on, the checkpointer's too."""
        event.listen(Engine, "before_cursor_execute", self._before)
        event.listen(Engine, "after_cursor_execute", self._after)
        self._watch_prepared()
        self._watch_commits()
        saver = memory.checkpointer()
        for step in ("put", "put_writes"):
            self._watch_step(type(saver), step)
        if memory.database.url.get_backend_name() == "sqlite":
            saver.conn.set_trace_callback(self._inside_saver)
        else:
            self._watch_cursors()

    def reach(self, what: str) -> None:
        with self._lock:
            self._times[what] += 1
            name = f"{what} #{self._times[what]}"
            self.reached.append(name)
            if name == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    def _before(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        written = WRITE.match(statement)
        if written:
            self.reach(f"before {_named(written)}")

    def _after(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        written = WRITE.match(statement)
        if written:
            self._transaction.last = _named(written)
            self.reach(f"after {_named(written)}")

    def _watch_prepared(self) -> None:
        """Name what is handed to the driver past SQLAlchemy, too."""
        driven = prepared._driven

        def watched(connection: Any, form: Any, *given: Any) -> Any:
            self._before(connection, None, form.sql)
            result = driven(connection, form, *given)
            self._after(connection, None, form.sql)
            return result

        prepared._driven = watched

    def _watch_commits(self) -> None:
        commit = DefaultDialect.do_commit

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            last = getattr(self._transaction, "last", None)
            if last is not None:
                self.reach(f"before the commit of {last}")
            commit(dialect, connection)
            if last is not None:
                self._transaction.last = None
                self.reach(f"after the commit of {last}")

        DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]

    def _watch_step(self, saver: type, step: str) -> None:
        method = getattr(saver, step)

        def watched(*args: Any, **more: Any) -> Any:
            self.reach(f"before checkpoint {step}")
            result = method(*args, **more)
            self.reach(f"after checkpoint {step}")
            return result

        setattr(saver, step, watched)

    def _inside_saver(self, statement: str) -> None:
        written = WRITE.match(statement)
        if written or statement.startswith("COMMIT"):
            self.reach(f"before checkpoint {_named(written) if written else 'commit'}")

    def _watch_cursors(self) -> None:
        import psycopg

        for step in ("execute", "executemany"):
            self._watch_cursor(psycopg.Cursor, step)

    def _watch_cursor(self, cursor: Any, step: str) -> None:
        method = getattr(cursor, step)

        def watched(its: Any, query: Any, *args: Any, **more: Any) -> Any:
            written = WRITE.match(query) if isinstance(query, str) else None
            mine = written is not None and "checkpoint" in written[2]
            if mine:
                self.reach(f"before {_named(written)}")
            result = method(its, query, *args, **more)
            if mine:
                self.reach(f"after {_named(written)}")
            return result

        setattr(cursor, step, watched)


def _named(written: re.Match[str] | None) -> str:
    assert written is not None
    return f"{written[1].upper()} {written[2]}"
