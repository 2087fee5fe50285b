"""When a step is written: on SQLite before the next begins, unless the host, or a parent graph, wants less."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Memory
from tests.graph.support import ANA, say, thread
from tests.graph.test_subgraph import ParentState

ASK = say("How do I go about comparing ETFs?", "q1")
S = thread("s")


class Counting(ScriptedChat):
    """A model that notes how many steps are written when it is asked for the answer."""

    written: Any = None
    seen: Any = None

    def _reply(self, messages: Any, tools: Any) -> AIMessage:
        self.seen.append(len([*self.written.list(S)]))
        return super()._reply(messages, tools)


def asked(memory: Memory, **options: Any) -> int:
    """Return how many steps were written when the model was asked."""
    model = Counting(written=memory.checkpointer(), seen=[])
    build_graph(memory, model=model).invoke(ASK, S, context=ANA, **options)
    return model.seen[0]


@pytest.mark.parametrize("options", [{}, {"durability": "async"}, {"durability": "sync"}], ids=str)
def test_a_step_is_written_before_the_next_begins(memory: Memory, options: dict[str, Any]) -> None:
    # The input, the step before the first, the beginning, what was recalled.
    assert asked(memory, **options) == 4


def test_whoever_wants_one_checkpoint_of_a_turn_gets_one(memory: Memory) -> None:
    assert asked(memory, durability="exit") == 0
    assert len([*memory.checkpointer().list(S)]) == 1


@pytest.mark.filterwarnings("ignore:.*checkpoint_during.*")
def test_its_older_name_still_says_so(memory: Memory) -> None:
    assert asked(memory, checkpoint_during=False) == 0


def test_on_an_event_loop_it_is_as_langgraph_has_it(memory: Memory) -> None:
    graph = build_graph(memory, model=ScriptedChat())
    asyncio.run(graph.ainvoke(ASK, S, context=ANA))
    assert len([*memory.checkpointer().list(S)]) > 3


@pytest.mark.parametrize("durability", ["exit", "sync"])
def test_a_parent_graph_decides_for_it(memory: Memory, durability: Any) -> None:
    saver = InMemorySaver()
    parent = StateGraph(ParentState, context_schema=Context)
    parent.add_node("agent", build_graph(memory, model=ScriptedChat(), reflection="off"))
    parent.add_edge(START, "agent")
    parent.add_edge("agent", END)
    parent.compile(checkpointer=saver).invoke(ASK, S, context=ANA, durability=durability)
    written = {ns: len(steps) for ns, steps in saver.storage["s"].items() if ns}
    assert sum(written.values()) <= 1 if durability == "exit" else min(written.values()) > 3
