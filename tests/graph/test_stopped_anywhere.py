"""Stopped anywhere, the prompt is the same: by a pause before any node, or an error before or after it."""

from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from learngate.graph import reflect_pending
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Decision, Memory
from tests.databases import BOTH, database
from tests.graph.support import (
    ANA,
    QUESTION,
    Broken,
    Fault,
    carry_on,
    full_graph,
    full_model,
    once,
    opened,
    rows,
    teach,
    thread,
)

NODES = (
    "begin_turn",
    "load_history",
    "recall_user_memory",
    "search_learnings",
    "respond",
    "tools",
    "save_turn",
    "reflect",
    "remember_user",
    "propose_learning",
    "review_learning",
    "save_learning",
)

Run = tuple[Memory, Any, ScriptedChat]


@pytest.fixture(params=["in memory", *BOTH])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """A graph on a memory that knows something, with LangGraph's saver and with the memory's own."""
    own = request.param != "in memory"
    with database(request.param, tmp_path) if own else nullcontext("sqlite://") as url, opened(url) as memory:
        saver = {} if own else {"checkpointer": InMemorySaver()}
        teach(memory, **saver)
        model = full_model()
        yield memory, full_graph(memory, model, **saver), model


@pytest.fixture
def unbroken(_unbroken: dict[str, Any]) -> dict[str, Any]:
    """What a run that nothing stops asks the model, and the rows that it leaves."""
    return deepcopy(_unbroken)


@pytest.fixture(scope="module")
def _unbroken() -> dict[str, Any]:
    with opened("sqlite://") as memory:
        teach(memory)
        model = full_model()
        graph = full_graph(memory, model)
        graph.invoke(QUESTION, thread("s"), context=ANA)
        carry_on(graph, thread("s"))
        return as_left(memory, model)


def as_left(memory: Memory, model: ScriptedChat) -> dict[str, Any]:
    return {"answered": once(model.prompts), "reflected": once(model.reflected), "rows": rows(memory)}


def test_the_unbroken_run_has_everything_in_it(unbroken: dict[str, Any], memory: Memory) -> None:
    assert set(NODES) == {
        name for name in full_graph(memory, full_model()).get_graph().nodes if not name.startswith("__")
    }
    prompt = str(unbroken["answered"])
    for part in ("What is an ETF?", "Ana wants low costs.", "Bond ETFs react", "VWCE costs 12.50"):
        assert part in prompt
    assert [learning["title"] for learning in unbroken["rows"]["learnings"]] == ["Duration", "Costs"]
    assert [memory["text"] for memory in unbroken["rows"]["user_memories"]] == [
        "Ana wants low costs.",
        "Ana holds VWCE.",
    ]


@pytest.mark.parametrize("node", NODES)
def test_paused_before_a_node(run: Run, unbroken: dict[str, Any], node: str) -> None:
    memory, graph, model = run
    graph.invoke(QUESTION, thread("s"), context=ANA, interrupt_before=[node])
    carry_on(graph, thread("s"))
    assert as_left(memory, model) == unbroken


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("node", NODES)
def test_broken_by_an_error(run: Run, unbroken: dict[str, Any], node: str, when: str) -> None:
    memory, graph, model = run
    fault = Fault(node, when)
    config = {**thread("s"), "callbacks": [fault]}
    try:
        graph.invoke(QUESTION, config, context=ANA)
        carry_on(graph, config)
    except Broken:
        pass
    assert not fault.armed
    carry_on(graph, thread("s"))
    left = as_left(memory, model)
    if node == "reflect":
        # After its work what it found is written, and takes effect, though the failure counts as an attempt.
        if when == "before":
            # Its failure leaves the turn standing, and the reflection is taken again apart from the run.
            assert left["rows"]["turns"][-1]["reflection"] == "failed"
            reflect_pending(memory, model=model)
            decide_in_the_inbox(memory)
            left = as_left(memory, model)
        assert left["rows"]["turns"][-1].pop("reflection_attempts") == 1
        unbroken["rows"]["turns"][-1].pop("reflection_attempts")
    assert left == unbroken


def decide_in_the_inbox(memory: Memory) -> None:
    for proposal in memory.learnings.pending(session_id="s"):
        memory.learnings.decide(proposal.id, Decision.approve(), reviewer="ana")
