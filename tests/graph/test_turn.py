"""The thin line through everything: begin, answer, save, propose, pause, resume."""

from langgraph.types import Command

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat, learning
from learngate.stores import open_memory

INSIGHT = "When comparing ETFs, check both expense ratio and tracking error."


def test_a_turn_proposes_pauses_and_is_better_for_the_next_user():
    model = ScriptedChat(answers=["Noted.", "Compare their costs."], reflections=[learning("ETFs", INSIGHT), None])
    ana, ben = ({"configurable": {"thread_id": name}} for name in ("ana", "ben"))
    with open_memory("sqlite://") as memory:
        graph = build_graph(memory, model=model)
        paused = graph.invoke(
            {"messages": [("user", "How do I compare ETFs?")]}, ana, context=Context("ana", "finance")
        )
        assert paused["messages"][-1].text == "Noted."
        assert memory.learnings.list(namespace="finance") == []

        asked = paused["__interrupt__"][0].value
        assert asked["action_requests"][0]["args"]["insight"] == INSIGHT
        done = graph.invoke(Command(resume="approve"), ana)
        assert done["proposal"]["status"] == "approved"
        assert done["proposal"]["decided_by"] == "ana"

        graph.invoke({"messages": [("user", "Compare two ETFs for me")]}, ben, context=Context("ben", "finance"))
        assert any(INSIGHT in message.text for message in model.prompts[-1])
