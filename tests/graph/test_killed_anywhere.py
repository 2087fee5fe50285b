"""Killed anywhere: a process dies at a node, another one goes on, and prompt and rows are as if nothing had been.

The children are forked from a server that has imported everything, so that each costs a moment and not seconds.
"""

import multiprocessing
import signal
from typing import Any

import pytest

from learngate.graph import reflect_pending
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Decision, Memory
from tests.graph.support import (
    ANA,
    QUESTION,
    Fault,
    carry_on,
    full_graph,
    full_model,
    once,
    opened,
    rows,
    run,
    teach,
    thread,
)
from tests.graph.test_stopped_anywhere import NODES

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.graph.preload"])


def die(url: str, durability: str, node: str, when: str) -> None:
    """Run a turn up to a node, and be killed there by a signal that nothing can catch."""
    with opened(url) as memory:
        graph = full_graph(memory, full_model())
        config = {**thread("s"), "callbacks": [Fault(node, when, kill=True)]}
        run(graph, QUESTION, config, context=ANA, durability=durability)
        carry_on(graph, config, durability=durability)


def killed(url: str, *how: str) -> None:
    child = processes.Process(target=die, args=(url, *how))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def deliver_again(graph: Any, memory: Memory) -> None:
    """Send the message again, as a client does that never heard of an answer."""
    graph.invoke(QUESTION, thread("s"), context=ANA)
    carry_on(graph, thread("s"))


def catch_up(memory: Memory, model: ScriptedChat) -> None:
    """Do what hosts do at their leisure: reflect on what is pending, decide what waits in the inbox."""
    reflect_pending(memory, model=model)
    for proposal in memory.learnings.pending(session_id="s"):
        memory.learnings.decide(proposal.id, Decision.approve(), reviewer="ana")


def as_left(memory: Memory, *models: ScriptedChat) -> dict[str, Any]:
    answered = [prompt for model in models for prompt in model.prompts]
    reflected = [prompt for model in models for prompt in model.reflected]
    return {"answered": once(answered), "reflected": once(reflected), "rows": rows(memory)}


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Any]:
    with opened("sqlite://") as memory:
        teach(memory)
        model = full_model()
        graph = full_graph(memory, model)
        graph.invoke(QUESTION, thread("s"), context=ANA)
        carry_on(graph, thread("s"))
        return as_left(memory, model)


# Killed after its work, a node has had its effect and no checkpoint knows; at "exit" none knows of the run at all.
@pytest.mark.parametrize(("durability", "when"), [("sync", "before"), ("async", "after"), ("exit", "after")])
@pytest.mark.parametrize("node", NODES)
def test_killed_at_a_node(url: str, unbroken: dict[str, Any], node: str, durability: str, when: str) -> None:
    with opened(url) as memory:
        teach(memory)
    killed(url, durability, node, when)
    with opened(url) as memory:
        model = full_model()
        graph = full_graph(memory, model)
        state = graph.get_state(thread("s"))
        if state.tasks:
            carry_on(graph, thread("s"))
        else:
            deliver_again(graph, memory)
        catch_up(memory, model)
        left = as_left(memory, model)
        assert left["rows"] == unbroken["rows"]
        # What this process asks is what the unbroken run would have asked from there on.
        assert left["answered"] == unbroken["answered"][len(unbroken["answered"]) - len(left["answered"]) :]
        assert left["reflected"] == unbroken["reflected"][len(unbroken["reflected"]) - len(left["reflected"]) :]
