"""The memory tools, called by hand: they note, and nothing more."""

from langchain_core.messages import ToolMessage

from learngate.nodes.tools import MEMORY_TOOLS, propose_learning, remember


def test_remember_notes_an_operation() -> None:
    noted = remember.invoke({"type": "tool_call", "name": "remember", "id": "c", "args": {"text": "Ana cycles."}})
    assert noted.update["noted"] == [{"operation": {"op": "add", "text": "Ana cycles.", "id": None}}]
    [message] = noted.update["messages"]
    assert isinstance(message, ToolMessage)
    assert (message.text, message.tool_call_id) == ("noted", "c")


def test_propose_learning_notes_a_candidate() -> None:
    args = {"title": "t", "insight": "i", "applies_when": "w"}
    noted = propose_learning.invoke({"type": "tool_call", "name": "propose_learning", "id": "c", "args": args})
    assert noted.update["noted"] == [{"candidate": {**args, "rationale": ""}}]
    assert noted.update["messages"][0].text == "noted, waiting for review"


def test_the_model_is_shown_only_what_it_may_fill_in() -> None:
    shown = {tool.name: set(tool.tool_call_schema.model_json_schema()["properties"]) for tool in MEMORY_TOOLS}
    assert shown == {"remember": {"text"}, "propose_learning": {"title", "insight", "applies_when"}}
