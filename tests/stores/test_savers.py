import asyncio
import sqlite3
import threading
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from learngate.stores import StoreError, StoreUnavailable, open_memory, sqlite
from learngate.stores.savers import Threaded
from tests.stores.support import Hashed, processes, together
from tests.stores.test_database import LOCKER

pytestmark = pytest.mark.anyio


def at(thread: str, checkpoint: str | None = None) -> dict[str, Any]:
    more = {"checkpoint_id": checkpoint} if checkpoint else {}
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **more}}


def checkpoint(number: int) -> Checkpoint:
    return {**empty_checkpoint(), "id": f"{number:032d}", "channel_values": {"x": number}}


def metadata(number: int) -> CheckpointMetadata:
    return {"source": "loop", "step": number}


@pytest.fixture(params=["sqlite://", "sqlite:///{}/it.db"])
def saver(request, tmp_path):
    with open_memory(request.param.format(tmp_path), embedder=Hashed()) as memory:
        yield memory.checkpointer()


async def test_what_one_colour_stores_the_other_reads(saver):
    config = saver.put(at("t"), checkpoint(1), metadata(1), {})
    saver.put_writes(config, [("x", 5)], "task")
    found = await saver.aget_tuple(at("t"))
    assert found.checkpoint["channel_values"] == {"x": 1}
    assert found.pending_writes == [("task", "x", 5)]

    config = await saver.aput(found.config, checkpoint(2), metadata(2), {})
    await saver.aput_writes(config, [("x", 6)], "task")
    found = saver.get_tuple(at("t"))
    assert found.checkpoint["channel_values"] == {"x": 2}
    assert found.pending_writes == [("task", "x", 6)]
    assert found.parent_config == at("t", checkpoint(1)["id"])

    assert [one.metadata["step"] for one in saver.list(at("t"))] == [2, 1]
    assert [one.metadata["step"] async for one in saver.alist(at("t"), limit=1)] == [2]
    assert [one.metadata["step"] async for one in saver.alist(at("t"), filter={"step": 1})] == [1]
    assert [one.metadata["step"] for one in saver.list(at("t"), before=config)] == [1]
    assert saver.get_tuple(at("nobody")) is None
    assert await saver.aget_tuple(at("t", "no such")) is None


async def test_deleting_a_thread_deletes_it_alone(saver):
    for thread in ("a", "b", "c"):
        config = saver.put(at(thread), checkpoint(1), metadata(1), {})
        saver.put_writes(config, [("x", 1)], "task")
    saver.delete_thread("a")
    await saver.adelete_thread("b")
    assert saver.get_tuple(at("a")) is None
    assert saver.get_tuple(at("b")) is None
    assert saver.get_tuple(at("c")).pending_writes == [("task", "x", 1)]


async def test_deleting_a_thread_comes_behind_what_still_waits_to_be_stored_of_it(saver):
    with saver.lock:
        first = asyncio.create_task(saver.aput(at("other"), checkpoint(1), metadata(1), {}))
        await asyncio.sleep(0.05)
        mine = [asyncio.create_task(saver.aput(at("mine"), checkpoint(n), metadata(n), {})) for n in range(3)]
        await asyncio.sleep(0.05)
        mine[1].cancel()
        deleted = asyncio.create_task(saver.adelete_thread("mine"))
        await asyncio.sleep(0.05)
    await asyncio.gather(first, deleted, mine[0], mine[2])
    assert saver.get_tuple(at("mine")) is None
    assert saver.get_tuple(at("other")) is not None


async def test_a_reader_who_stops_half_way_keeps_nobody_from_writing(saver):
    for number in range(3):
        saver.put(at("t"), checkpoint(number), metadata(number), {})
    unfinished = saver.list(at("t"))
    assert next(unfinished).metadata["step"] == 2
    unfinished_too = saver.alist(at("t"))
    assert (await anext(unfinished_too)).metadata["step"] == 2
    saver.put(at("t"), checkpoint(3), metadata(3), {})
    await saver.aput(at("t"), checkpoint(4), metadata(4), {})
    assert [one.metadata["step"] for one in unfinished] == [1, 0]
    assert saver.get_tuple(at("t")).metadata["step"] == 4
    await unfinished_too.aclose()


class Counted(TypedDict):
    seen: Annotated[list[str], add]


def ask(state: Counted) -> Counted:
    return {"seen": [interrupt("Shall I?")]}


def asking(saver: Threaded) -> Any:
    builder = StateGraph(Counted)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


async def test_fifty_runs_pause_and_resume_at_once(saver):
    graph = asking(saver)

    async def run(number: int) -> list[str]:
        thread = at(f"t{number}")
        paused = await graph.ainvoke({"seen": []}, thread)
        assert paused["__interrupt__"][0].value == "Shall I?"
        return (await graph.ainvoke(Command(resume=f"yes {number}"), thread))["seen"]

    seen = await asyncio.gather(*[run(number) for number in range(50)])
    assert seen == [[f"yes {number}"] for number in range(50)]
    assert graph.get_state(at("t7")).values == {"seen": ["yes 7"]}


def test_threads_and_stores_write_side_by_side(saver):
    graph = asking(saver)

    def run(number: int) -> list[str]:
        thread = at(f"t{number}")
        graph.invoke({"seen": []}, thread)
        return graph.invoke(Command(resume=f"yes {number}"), thread)["seen"]

    seen = together(*[lambda n=n: run(n) for n in range(12)])
    assert seen == [[f"yes {number}"] for number in range(12)]


def test_a_locked_database_says_so_and_the_saver_goes_on_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    path = tmp_path / "it.db"
    with open_memory(f"sqlite:///{path}", embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        saver.put(at("t"), checkpoint(1), metadata(1), {})
        with processes(LOCKER, [str(path)]):
            with pytest.raises(StoreUnavailable, match="locked by another process"):
                saver.put(at("t"), checkpoint(2), metadata(2), {})
            with pytest.raises(StoreUnavailable, match="locked by another process"):
                saver.put_writes(at("t", checkpoint(1)["id"]), [("x", 1)], "task")
            assert saver.get_tuple(at("t")).metadata["step"] == 1
        saver.put(at("t"), checkpoint(2), metadata(2), {})
        assert saver.get_tuple(at("t")).metadata["step"] == 2


def test_a_commit_that_fails_is_rolled_back_and_the_saver_goes_on(monkeypatch):
    """In memory there is no WAL: an open reader keeps a writer from committing."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        saver.put(at("t"), checkpoint(1), metadata(1), {})
        with memory.database.read() as reader:
            reader.exec_driver_sql("SELECT count(*) FROM checkpoints").all()
            with pytest.raises(StoreUnavailable):
                saver.put(at("t"), checkpoint(2), metadata(2), {})
        assert saver.get_tuple(at("t")).metadata["step"] == 1
        saver.put(at("t"), checkpoint(3), metadata(3), {})
        assert [one.metadata["step"] for one in saver.list(at("t"))] == [3, 1]


def test_a_write_that_fails_half_way_leaves_nothing(saver):
    config = saver.put(at("t"), checkpoint(1), metadata(1), {})

    def fail() -> None:
        with saver.cursor() as cursor:
            cursor.execute("DELETE FROM checkpoints")
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="the power is gone"):
        fail()
    assert saver.get_tuple(config) is not None
    saver.put(at("t"), checkpoint(2), metadata(2), {})


def test_a_database_that_cannot_take_the_saver_leaves_no_connection_open(tmp_path, monkeypatch):
    path = tmp_path / "it.db"
    open_memory(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as other:
        other.execute("CREATE VIEW checkpoints AS SELECT 1")
        other.execute("CREATE VIEW writes AS SELECT 1")
    other.close()
    with open_memory(f"sqlite:///{path}") as memory:
        opened = []
        connect = memory.database.connect
        monkeypatch.setattr(memory.database, "connect", lambda: opened.append(connect()) or opened[-1])
        with pytest.raises(StoreError):
            memory.checkpointer()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            opened[0].execute("SELECT 1")


def test_a_memory_has_one_saver(saver):
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        savers = together(*[memory.checkpointer] * 8)
        assert len({id(one) for one in savers}) == 1
        assert savers[0] is not saver


def test_closing_waits_for_a_thread_that_still_writes(saver):
    """A run that was given up may still write in its thread; a connection closed under it ends the process."""
    writing, closing, done = threading.Event(), threading.Event(), threading.Event()
    failed = []

    def write():
        try:
            with saver.cursor() as cursor:
                writing.set()
                closing.wait(10)
                done.wait(0.2)
                cursor.execute("SELECT count(*) FROM checkpoints").fetchone()
        except (sqlite3.Error, StoreError) as error:
            failed.append(error)

    def close():
        closing.set()
        saver.close()
        done.set()

    writer, closer = threading.Thread(target=write), threading.Thread(target=close)
    writer.start()
    assert writing.wait(10)
    closer.start()
    for thread in (writer, closer):
        thread.join(10)
    assert done.is_set()
    assert failed == []
