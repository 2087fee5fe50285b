"""A user who is erased while the agent answers them does not come back with what the run still writes."""

from contextlib import suppress

import pytest
from langgraph.types import Command

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat, learning
from learngate.graph.scripted import memory as memory_of
from learngate.stores import LearngateError, NotAllowed, NotFound, open_memory

RULE = "When comparing ETFs, check both the expense ratio and the tracking error."
STEPS = ["begin_turn", "load_history", "recall_user_memory", "search_learnings", "respond"]
STEPS += ["save_turn", "reflect", "remember_user", "propose_learning"]


@pytest.mark.parametrize("node", STEPS)
def test_nothing_of_an_erased_user_is_written_by_the_run_that_goes_on(node):
    facts = memory_of("The user lives in Graz.").memories
    reflected = learning("ETF costs", RULE).model_copy(update={"memories": facts})
    with open_memory("sqlite://") as memory:
        graph = build_graph(memory, model=ScriptedChat(answers=["Noted."], reflections=[reflected]))
        config = {"configurable": {"thread_id": "s"}}
        said = {"messages": [("user", f"I live in Graz. {RULE}")]}
        seen = []
        with suppress(NotAllowed):  # the run's next write may be refused; what counts is what is left
            for update in graph.stream(said, config, context=Context("ana", "finance"), stream_mode="updates"):
                seen += update
                if node in update:
                    memory.erase("ana")
        assert node in seen
        assert memory.users.list("ana") == []
        assert memory.sessions.list(user_id="ana") == []
        assert memory.learnings.waiting() == {}
        memory.erase("ana")
        assert [*memory.checkpointer().list(config)] == []


@pytest.mark.parametrize("user", ["ana", "ben", None])
def test_an_erased_session_is_neither_resumed_nor_opened_again(user):
    with open_memory("sqlite://") as memory:
        graph = build_graph(
            memory, model=ScriptedChat(answers=["Noted."], reflections=[learning("ETF costs", RULE)])
        )
        config = {"configurable": {"thread_id": "s"}}
        paused = graph.invoke({"messages": [("user", RULE)]}, config, context=Context("ana", "finance"))
        assert "__interrupt__" in paused
        memory.erase("ana")
        for given in (Command(resume="approve"), {"messages": [("user", "hello")]}, None):
            with pytest.raises(LearngateError) as refused:
                graph.invoke(given, config, context=Context(user))
            assert isinstance(refused.value, NotAllowed | NotFound)
        assert memory.learnings.list(namespace="finance") == []
