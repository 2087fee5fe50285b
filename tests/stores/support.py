"""What the tests of the stores share: threads that start together, processes to talk to, a small embedder."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from textwrap import dedent
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import event, text

from learngate.stores import Memory, ProposalDraft, Turn
from learngate.stores.text import words


class Hashed(Embeddings):
    """Words hashed into a few dimensions: a real embedder that costs nothing."""

    def __init__(self, dimensions: int = 16) -> None:
        self.length = dimensions
        self.asked: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        return [self._one(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._one(text)

    def _one(self, text: str) -> list[float]:
        vector = np.zeros(self.length)
        for word in words(text):
            number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
            vector[number % self.length] += 1 if number & 1 << 40 else -1
        if words(text) and not vector.any():  # two may cancel out
            vector[number % self.length] = 1
        return vector.tolist()


def turn(session: str, question: str = "How are you?", answer: str = "Well.", **more: Any) -> Turn:
    return Turn(session, (HumanMessage(question), AIMessage(answer)), **more)


def draft(insight: str, title: str = "A rule", **more: Any) -> ProposalDraft:
    return ProposalDraft(title=title, insight=insight, **more)


def rows(memory: Memory, table: str, where: str = "true") -> int:
    """Return how many rows of a table there are."""
    with memory.database.read() as connection:
        return connection.scalar(text(f"SELECT count(*) FROM {table} WHERE {where}")) or 0


def check_index(memory: Memory) -> None:
    """Let FTS5 compare each of its indexes with the rows that it is of; PostgreSQL's are columns of the rows."""
    if memory.database.dialect != "sqlite":
        return
    with memory.database.write() as connection:
        for index in ("learnings_fts", "user_memories_fts", "turns_fts"):
            connection.execute(text(f"INSERT INTO {index}({index}, rank) VALUES ('integrity-check', 1)"))


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make the calls in as many threads, all at once; return what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def work(number: int) -> None:
        barrier.wait()
        try:
            results[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 - it is handed to the test
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@contextmanager
def processes(script: str, *arguments: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Run a script once for each list of arguments; each process says "ready" before it is given to the test.

    A script tells it with `ready()`, and goes on when the test sends a line.
    """
    prelude = 'import sys\ndef ready():\n    print("ready", flush=True)\n    sys.stdin.readline()\n'
    started = [
        subprocess.Popen(
            [sys.executable, "-c", prelude + dedent(script), *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for given in arguments
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def go(started: list[subprocess.Popen[str]]) -> list[list[str]]:
    """Let waiting processes go on, all at once, to their end; return the lines that each printed."""
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate()[0].splitlines() for process in started]


def statements_of(memory: Memory) -> list[str]:
    """Return what grows by each statement that a database is asked from now on, whoever asks it."""
    asked: list[str] = []
    engine = memory.database._engine
    if memory.database.dialect == "sqlite":
        engine.dispose()  # so that every connection is a new one

        def note(statement: str) -> None:
            # Not what its full-text search asks of its own tables.
            if "_fts_" not in statement:
                asked.append(statement)

        event.listen(engine, "connect", lambda driver, _: driver.set_trace_callback(note))
    else:
        event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    return asked
