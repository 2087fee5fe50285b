"""What can never work is refused when the graph is built, with a line that says how to mend it."""

from dataclasses import fields
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

import learngate.graph
from learngate.graph import Budgets, build_graph
from learngate.graph.build import MOST
from learngate.graph.scripted import ScriptedChat
from learngate.stores import ConfigurationError, Memory, ProposalDraft
from tests.graph.support import ANA, price, say, spoken, thread

PICTURE = {
    "begin_turn",
    "load_history",
    "recall_user_memory",
    "search_learnings",
    "respond",
    "save_turn",
    "reflect",
    "remember_user",
    "propose_learning",
    "review_learning",
    "save_learning",
}


UNTOLD = lambda word: word  # noqa: E731
"""A function that says nothing of itself."""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reflection": "sometimes"}, '"inline", "background" or "off"'),
        ({"reflection": None}, '"inline", "background" or "off"'),
        ({"checkpointer": False}, "pause=False"),
        ({"budgets": {"learnings": 2}}, r"takes Budgets\(…\), such as .*, not {'learnings': 2}"),
        ({"budgets": {}}, r"takes Budgets\(…\)"),
        ({"budgets": 0, "memory_tools": True}, r"takes Budgets\(…\)"),
        ({"pause": "sometimes"}, "True or False"),
        ({"instructions": None}, "takes text"),
        ({"tools": ["x"]}, "'x' is no tool: give a function with a docstring"),
        ({"tools": [5]}, "5 is no tool"),
        ({"tools": [UNTOLD]}, r"is no tool \(Function must have a docstring"),
        ({"tools": print}, r"takes a list, such as \[print\]"),
        ({"tools": "search"}, "'s' is no tool"),
        ({"model": None}, "is no model"),
        ({"model": "google_genai:gemini-3-flash-preview"}, "GOOGLE_API_KEY"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_refused(memory: Memory, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        build_graph(memory, **{"model": ScriptedChat(), **options})


@pytest.mark.parametrize("memory", ["sqlite://", None])
def test_a_graph_is_built_on_a_memory(memory: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"open_memory"):
        build_graph(memory, model="offline")


BUDGETS = [field.name for field in fields(Budgets)]


@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("given", ["3", None, -1, 2.5, 3.0, float("nan"), True, 10**30, [], "x" * 1_000])
def test_a_budget_that_is_none_is_refused_by_its_name(name: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Budgets\({name}=…\) takes a whole number from \d") as refused:
        Budgets(**{name: given})
    assert len(str(refused.value)) < 250


def test_at_least_one_turn_is_kept_and_of_all_else_there_may_be_nothing() -> None:
    with pytest.raises(ConfigurationError, match="whole number from 1"):
        Budgets(kept_turns=0)
    assert {getattr(Budgets(**{name: 0}), name) for name in BUDGETS if name != "kept_turns"} == {0}


@pytest.mark.parametrize("most", [True, False])
def test_a_turn_runs_with_the_largest_budgets_and_with_the_least(memory: Memory, most: bool) -> None:
    memory.learnings.add(
        ProposalDraft("ETFs", "Look at the tracking difference."), namespace="finance", actor="kim"
    )
    memory.users.remember("ana", "Ana compares the tracking difference.")
    budgets = Budgets(**{name: MOST if most else int(name == "kept_turns") for name in BUDGETS})
    graph = build_graph(memory, model=ScriptedChat(), memory_tools=True, budgets=budgets)
    for _ in range(2):
        recall = graph.invoke(say("Compare the tracking difference"), thread("s"), context=ANA)["recall"]
    shown = [item["shown"] for kind in ("history", "memories", "learnings") for item in recall[kind]]
    assert shown.count(True) == (3 if most else 0)


def drawn(graph: Any) -> set[str]:
    return {name for name in graph.get_graph().nodes if not name.startswith("__")}


def test_the_drawing_is_the_picture(memory: Memory) -> None:
    assert drawn(build_graph(memory, model=ScriptedChat())) == PICTURE


@pytest.mark.parametrize(
    ("options", "more", "less"),
    [
        ({"tools": [price]}, {"tools"}, set()),
        ({"memory_tools": True}, {"tools"}, set()),
        ({"pause": False}, set(), {"review_learning", "save_learning"}),
        ({"reflection": "background"}, set(), {"reflect"}),
        ({"reflection": "off"}, set(), {"reflect"}),
    ],
)
def test_options_change_the_picture(
    memory: Memory, options: dict[str, Any], more: set[str], less: set[str]
) -> None:
    plain = PICTURE
    assert drawn(build_graph(memory, model=ScriptedChat(), **options)) == (plain | more) - less


def test_the_memorys_own_checkpointer_is_used_unless_another_is_given(memory: Memory) -> None:
    assert build_graph(memory, model=ScriptedChat()).checkpointer is memory.checkpointer()
    saver = InMemorySaver()
    assert build_graph(memory, model=ScriptedChat(), checkpointer=saver).checkpointer is saver
    assert build_graph(memory, model=ScriptedChat(), checkpointer=None).checkpointer is None
    assert build_graph(memory, model=ScriptedChat(), checkpointer=False, pause=False).checkpointer is False


def test_without_any_checkpoint_by_choice_it_answers(memory: Memory) -> None:
    graph = build_graph(memory, model=ScriptedChat(), checkpointer=False, pause=False)
    assert graph.invoke(say("Hello"), thread("s"), context=ANA)["messages"][-1].text == "ok"


def test_a_copy_keeps_the_door_and_its_memory(memory: Memory) -> None:
    graph = build_graph(memory, model=ScriptedChat(), name="mine")
    copied = graph.with_config(tags=["x"])
    assert type(copied) is type(graph)
    assert copied.memory is memory
    assert (copied.name, copied.config["tags"]) == ("mine", ["x"])
    assert copied.checkpointer is graph.checkpointer


def test_instructions_go_first_and_alone_into_the_systems_voice(memory: Memory) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    model = ScriptedChat()
    build_graph(memory, model=model, instructions="  You are terse.  ").invoke(say("Hi"), thread("s"), context=ANA)
    system = [message for message in model.prompts[-1] if message.type == "system"]
    assert len(system) == 1
    assert system[0].text.startswith("You are terse.\n")
    assert "low costs" not in spoken(system)


def test_budgets_bound_what_is_recalled(memory: Memory) -> None:
    for n in range(30):
        memory.users.remember("ana", f"Ana's note number {n} says that she likes the fund of week {n}.")
    model = ScriptedChat(answers=["x" * 400])
    budgets = Budgets(history_turns=2, history_tokens=50, memory_tokens=50, learnings=0, kept_turns=3)
    graph = build_graph(memory, model=model, reflection="off", budgets=budgets)
    for n in range(6):
        result = graph.invoke(say(f"Which fund did I like in week {n}?"), thread("s"), context=ANA)
    assert sum(len(item["text"]) for item in result["recall"]["memories"]) <= 200
    assert any(not item["shown"] for item in result["recall"]["memories"])
    assert len(result["recall"]["history"]) == 2
    assert len(spoken(model.prompts[-1][1:])) < 1_000
    assert len(result["messages"]) <= 8


def test_the_room_offers_what_it_says() -> None:
    assert learngate.graph.__all__ == [
        "Budgets",
        "Context",
        "ReflectionReport",
        "areflect_pending",
        "aresume_decided",
        "build_graph",
        "reflect_pending",
        "resume_decided",
    ]
    assert all(hasattr(learngate.graph, name) for name in learngate.graph.__all__)
