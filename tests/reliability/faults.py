"""The database cannot do what is asked, the clock is wrong, the model hangs: it is said, and nothing is lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import Engine, event, text

from learngate.graph import build_graph
from learngate.stores import Decision, Memory, ProposalDraft, StoreError, StoreUnavailable, Turn, records
from tests.doubles.gemini import GeminiDouble, Slow
from tests.graph.support import ANA, opened, say, texts, thread
from tests.reliability.counting import Count, Databases, Scenario, Servers, Tally, made, name_of, path_of, processes
from tests.reliability.deeds import DEEDS, Deed, Told, attempt, judge
from tests.reliability.points import WRITE
from tests.reliability.rows import check_whole

SCENARIOS: list[Scenario] = []
NOBODY = 65534


def child(work: Any, *args: Any) -> Any:
    """Run something in a process of its own, and return what it sends."""
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(*args, there))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()
        here.close()


def all_again(memory: Memory, numbers: range) -> list[Told]:
    return [attempt(memory, deed, n) for n in numbers for deed in DEEDS]


# -- a disk without room ------------------------------------------------------------------------------------


def fill(url: str, limit: int | None, out: Any) -> None:
    """Store things until there is no room, and go on asking."""
    told: list[Told] = []
    with opened(url) as memory:
        memory.checkpointer()
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        n = 1000
        while sum(error is not None for *_, error in told) < len(DEEDS) + 2 and n < 1400:
            told.append(attempt(memory, DEEDS[n % (len(DEEDS) - 1)], n))
            n += 1
        told.append(attempt(memory, DEEDS[-1], n))
    out.send(told)


@contextmanager
def small_disk(size: str) -> Iterator[Path | None]:
    """Mount a disk of a size; `None` where this user may not."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "learngate", folder], capture_output=True, check=False
        )
        if mounted.returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def after_the_fault(url: str, told: list[Told], tally: Tally, where: str) -> None:
    """Look at what is there now, and that everything works again."""
    tally.check(any(error is not None for *_, error in told), "silent", f"{where}: nothing was refused")
    with opened(url) as memory:
        judge(memory, told, tally, where)
        check_whole(memory, tally, where)
        again = all_again(memory, range(5000, 5001))
        for name, n, error in again:
            tally.check(error is None, "lost", f"{where}: {name} {n} is refused afterwards: {error}")
        judge(memory, again, tally, where)


@made(SCENARIOS, long=20, sample=1, only="SQLite")
def disk_full(databases: Databases, rounds: int) -> Iterator[Count]:
    """The disk is full."""
    for number in range(rounds):
        tally = Tally()
        with small_disk("1600k") as folder:
            if number % 2 or folder is None:
                url = databases.ready()
                opened(url).close()
                told = child(fill, url, 900_000 + 4096 * number)
                after_the_fault(url, told, tally, "a limit on the file")
                databases.drop(url)
            else:
                url = f"sqlite:///{folder / 'full.db'}"
                opened(url).close()
                (folder / "other").write_bytes(bytes(20_000 * number))
                told = child(fill, url, None)
                (folder / "other").unlink()
                subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
                after_the_fault(url, told, tally, "a full disk")
        yield tally.count(len(told))


# -- read-only ----------------------------------------------------------------------------------------------


def write_as_nobody(url: str, out: Any) -> None:
    """Try to store things as a user who may only read."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    told: list[Told] = []
    try:
        with opened(url) as memory:
            told = all_again(memory, range(1))
    except StoreError as error:
        told = [(deed.name, 0, f"{type(error).__name__}: {error}") for deed in DEEDS]
    out.send(told)


@contextmanager
def locked_folder(databases: Databases) -> Iterator[str]:
    """Give the URL of a database in a folder where nobody may write."""
    folder = Path(tempfile.mkdtemp(prefix="learngate-read-only-"))
    try:
        url = f"sqlite:///{folder / 'it.db'}"
        opened(url).close()
        for path, mode in ((folder / "it.db", 0o444), (folder, 0o555)):
            path.chmod(mode)
        yield url
    finally:
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@made(SCENARIOS, long=10, sample=1, only="SQLite")
def read_only(databases: Databases, rounds: int) -> Iterator[Count]:
    """The file and its folder are read-only."""
    for _ in range(rounds):
        tally = Tally()
        with locked_folder(databases) as url:
            told = child(write_as_nobody, url)
            path_of(url).parent.chmod(0o755)
            path_of(url).chmod(0o644)
            after_the_fault(url, told, tally, "read-only")
        yield tally.count(len(told))


@made(SCENARIOS, long=10, sample=1, only="PostgreSQL")
def read_only_server(databases: Databases, rounds: int) -> Iterator[Count]:
    """The server is read-only."""
    assert isinstance(databases, Servers)
    for _ in range(rounds):
        tally, url = Tally(), databases.ready()
        with opened(url) as memory:
            memory.checkpointer()
        databases.run(f"ALTER DATABASE {name_of(url)} SET default_transaction_read_only = on")
        with opened(url) as memory:
            told = all_again(memory, range(1))
        databases.run(f"ALTER DATABASE {name_of(url)} RESET default_transaction_read_only")
        after_the_fault(url, told, tally, "read-only")
        databases.drop(url)
        yield tally.count(len(told))


# -- a lock -------------------------------------------------------------------------------------------------


def hold(url: str, out: Any, go: Any) -> None:
    """Hold the writers' lock until told to let go."""
    with opened(url) as memory, suppress(StoreUnavailable), memory.database.write() as connection:
        connection.execute(text("UPDATE sessions SET newest = NULL WHERE id = 'none'"))
        out.send(True)
        go.poll(60)


@made(SCENARIOS, long=3, sample=0)
def lock_held(databases: Databases, rounds: int) -> Iterator[Count]:
    """Another process holds the lock for 30 s."""
    for _ in range(rounds):
        tally, url = Tally(), databases.ready()
        opened(url).close()
        here, ready = processes.Pipe(duplex=False)
        waits, go = processes.Pipe(duplex=False)
        holder = processes.Process(target=hold, args=(url, ready, waits))
        holder.start()
        here.recv()
        with opened(url) as memory:
            told = [attempt(memory, deed, 0) for deed in DEEDS]
            reading = memory.users.list("ana")
        tally.check(reading == [], "silent", f"read {reading} beside a writer")
        tally.check(all(error is not None for *_, error in told), "silent", f"not refused: {told}")
        go.send(True)
        holder.join()
        after_the_fault(url, told, tally, "locked")
        databases.drop(url)
        yield tally.count(len(told))


# -- a connection that is dropped ---------------------------------------------------------------------------


class Dropped:
    """Ends this process's connection in the middle: at its n-th write, before or after it."""

    def __init__(self, databases: Servers, nth: int, *, kill: bool) -> None:
        self.databases, self.left, self.kill = databases, nth, kill
        self.done = False

    def __call__(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not self.done and WRITE.match(statement):
            self.left -= 1
            if self.left == 0:
                self.done = True
                self.databases.end(cursor.connection.info.backend_pid, kill=self.kill)


@made(SCENARIOS, long=50, sample=1, only="PostgreSQL")
def connection_dropped(databases: Databases, rounds: int) -> Iterator[Count]:
    """The server drops the connection in the middle of a transaction."""
    yield from dropped(databases, rounds, kill=False)


@made(SCENARIOS, long=20, sample=1, only="PostgreSQL")
def server_killed(databases: Databases, rounds: int) -> Iterator[Count]:
    """The server is killed in the middle of a transaction, and recovers."""
    yield from dropped(databases, rounds, kill=True)


def in_the_end(memory: Memory, deed: Deed, n: int) -> Told:
    """Do something, and again where it is said to: connections that lie in a pool may be dead, too."""
    told = attempt(memory, deed, n)
    for _ in range(3):
        if told[2] is None or "try again" not in told[2]:
            break
        told = attempt(memory, deed, n)
    return told


def dropped(databases: Databases, rounds: int, *, kill: bool) -> Iterator[Count]:
    assert isinstance(databases, Servers)
    url, where = databases.ready(), "server killed" if kill else "connection dropped"
    with opened(url) as memory:
        memory.checkpointer()
        for number in range(rounds):
            tally, told, ended = Tally(), [], 0
            for deed in DEEDS[:-1]:
                drop = Dropped(databases, 1 + number % 5, kill=kill)
                moment = ("before_cursor_execute", "after_cursor_execute")[number % 2]
                event.listen(Engine, moment, drop)
                try:
                    told.append(attempt(memory, deed, number))
                finally:
                    event.remove(Engine, moment, drop)
                if drop.done:
                    ended += 1
                    tally.check(told[-1][2] is not None, "silent", f"{deed.name} came through: {where}")
                    databases.wait()
            assert ended, "no connection was ended"
            judge(memory, told, tally, where)
            again = [in_the_end(memory, deed, 10_000 + number) for deed in DEEDS]
            tally.check(all(error is None for *_, error in again), "lost", f"refused afterwards: {again}")
            check_whole(memory, tally, where)
            yield tally.count(len(told))


# -- the clock ----------------------------------------------------------------------------------------------


@contextmanager
def clock_back(hours: float) -> Iterator[None]:
    """Set this process's clock back."""

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(hours=hours)

    records.datetime = Earlier  # type: ignore[attr-defined, misc]
    try:
        yield
    finally:
        records.datetime = datetime  # type: ignore[attr-defined]


@made(SCENARIOS, long=20, sample=2)
def clock_jumps(databases: Databases, rounds: int) -> Iterator[Count]:
    """The clock jumps back between two calls."""
    url = databases.ready()
    with opened(url) as memory:
        for number in range(rounds):
            tally, session, user = Tally(), f"s{number}", f"user-{number}"
            for i in range(6):
                with clock_back(hours=i * 24.5 * (number % 7)):
                    words = HumanMessage(f"question {i}"), AIMessage(f"answer {i}")
                    memory.sessions.append(Turn(session, words, user_id=user, id=f"{i}"))
                    memory.users.remember(user, f"fact {i}")
            with clock_back(hours=1):
                waiting = memory.learnings.propose(ProposalDraft("T", f"insight {number}"), namespace="n")
            with clock_back(hours=99):
                learned = memory.learnings.decide(waiting.id, Decision.approve(), reviewer="kim")
                assert learned is not None
                memory.learnings.edit(learned.id, insight=f"insight {number}, better", actor="kim")
            line = [turn.question for turn in memory.sessions.window(session, turns=10)]
            tally.check(line == [f"question {i}" for i in range(6)], "half", f"the session reads {line}")
            kept = {one.text for one in memory.users.list(user)}
            tally.check(kept == {f"fact {i}" for i in range(6)}, "lost", f"kept {kept}")
            history = [version.insight for version in memory.learnings.history(learned.id)]
            tally.check(history == [f"insight {number}", f"insight {number}, better"], "half", f"{history}")
            found = memory.learnings.search(f"insight {number}", namespace="n", k=50, floor=False)
            found_it = any(hit.learning.insight == f"insight {number}, better" for hit in found)
            tally.check(found_it, "lost", "the learning is not found")
            yield tally.count()


# -- the model ----------------------------------------------------------------------------------------------


@made(SCENARIOS, long=20, sample=1)
def model_hangs(databases: Databases, rounds: int) -> Iterator[Count]:
    """The model does not answer: the turn is not recorded, and the session goes on."""
    from langchain_google_genai import ChatGoogleGenerativeAI

    url = databases.ready()
    with opened(url) as memory, GeminiDouble() as gemini:
        chat = ChatGoogleGenerativeAI(
            model="gemini-3-flash-preview", base_url=gemini.url, google_api_key="test", max_retries=1, timeout=0.3
        )
        graph = build_graph(memory, model=chat, reflection="off")
        for number in range(rounds):
            tally, session = Tally(), f"s{number}"
            gemini.answers.append(Slow(30))
            try:
                result = graph.invoke(say("What is an ETF?", "asked"), thread(session), context=ANA)
                tally.note("silent", f"a call that hangs answered {texts(result['messages'])}")
            except Exception as error:  # noqa: BLE001 - the client's own, with its own words
                said = f"{type(error).__name__}: {error}".lower()
                tally.check("timeout" in said or "timed out" in said or "deadline" in said, "silent", said)
            tally.check(not memory.sessions.window(session), "silent", "a turn without an answer is recorded")
            again = graph.invoke(say("What is an ETF?", "asked"), thread(session), context=ANA)
            said = texts(again["messages"])
            tally.check(said == ["What is an ETF?", "ok"], "lost", f"the session goes on with {said}")
            window = [turn.id for turn in memory.sessions.window(session)]
            tally.check(window == ["asked"], "doubled", f"recorded {window}")
            yield tally.count()
