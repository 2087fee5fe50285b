"""Killed at the gate, or while the decision is being written: approved once, stored once."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.types import Command
from sqlalchemy import Connection, Engine, event

from learngate.graph import Context, build_graph
from learngate.stores import Memory
from tests.graph.support import ANA, INSIGHT, Fault, opened, proposing, rows, run, say, thread

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.graph.preload"])

S = thread("s")
KIM = Context("ana", "finance", reviewer="kim")


def ask(memory: Memory, durability: str) -> Any:
    graph = build_graph(memory, model=proposing())
    run(graph, say("Comparing ETFs?", "q1"), S, context=ANA, durability=durability)
    return graph


def die_while_it_waits(url: str, durability: str) -> None:
    with opened(url) as memory:
        ask(memory, durability)
        os.kill(os.getpid(), signal.SIGKILL)


def die_when_it_is_answered(url: str, durability: str) -> None:
    """Be killed when the answer is stored, and not yet whose it is."""
    with opened(url) as memory:
        config = {**S, "callbacks": [Fault("review_learning", "after", kill=True)]}
        run(ask(memory, durability), Command(resume="approve"), config, context=KIM, durability=durability)


def die_while_it_is_decided(url: str, durability: str) -> None:
    """Be killed when the decision is written and not yet committed."""

    def before_commit(connection: Connection) -> None:
        if connection.exec_driver_sql("SELECT 1 FROM decisions").first():
            os.kill(os.getpid(), signal.SIGKILL)

    with opened(url) as memory:
        graph = ask(memory, durability)
        event.listen(Engine, "commit", before_commit)
        run(graph, Command(resume="approve"), S, context=KIM, durability=durability)


def die_after_it_was_decided(url: str, durability: str) -> None:
    with opened(url) as memory:
        config = {**S, "callbacks": [Fault("save_learning", "after", kill=True)]}
        run(ask(memory, durability), Command(resume="approve"), config, context=KIM, durability=durability)


def go_on(memory: Memory) -> dict[str, Any]:
    """Do what a new process does: go on, and answer if it is asked."""
    graph = build_graph(memory, model=proposing("never asked"))
    result = graph.invoke(None, S)
    if "__interrupt__" in result:
        result = graph.invoke(Command(resume="approve"), S, context=KIM)
    return result


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    "dies", [die_while_it_waits, die_when_it_is_answered, die_while_it_is_decided, die_after_it_was_decided]
)
def test_approved_once_and_stored_once(url: str, dies: Callable[..., None], durability: str) -> None:
    child = processes.Process(target=dies, args=(url, durability))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with opened(url) as memory:
        before = rows(memory)
        assert len(before["decisions"]) == len(before["learnings"]) == (dies is die_after_it_was_decided)
        result = go_on(memory)
        assert (result["proposal"]["status"], result["proposal"]["decided_by"]) == ("approved", "kim")
        assert result["messages"][-1].text == "Noted."
        after = rows(memory)
        assert [row["insight"] for row in after["learnings"]] == [INSIGHT]
        assert [row["reviewer"] for row in after["decisions"]] == ["kim"]
        assert len(after["revisions"]) == len(after["turns"]) == len(after["proposals"]) == 1
        # And once more, from where it was asked: nothing anew.
        go_on(memory)
        assert rows(memory) == after
