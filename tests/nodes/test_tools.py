"""The memory tools, called by hand: they note what will take effect, and say what is wrong with the rest."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from learngate.nodes.tools import MEMORY_TOOLS, propose_learning, remember

GOOD = {"title": "ETFs", "insight": "When comparing ETFs, check the expense ratio.", "applies_when": "comparing"}


def call(tool: Any, args: dict[str, Any], *, user: str | None = "ana", noted: Any = (), others: Any = ()) -> Any:
    mine = {"type": "tool_call", "name": tool.name, "id": "c", "args": args}
    calls = [*({**mine, "id": other} for other in others), mine]
    state = {"turn": {"user_id": user}, "noted": [*noted], "messages": [AIMessage("", tool_calls=calls)]}
    return tool.invoke({**mine, "args": {**args, "state": state}}).update


def test_remember_notes_an_operation() -> None:
    update = call(remember, {"text": " Ana cycles. "})
    assert update["noted"] == [{"operation": {"op": "add", "text": "Ana cycles.", "id": None}}]
    [message] = update["messages"]
    assert isinstance(message, ToolMessage)
    assert (message.text, message.tool_call_id) == ("noted", "c")


def test_propose_learning_notes_a_candidate() -> None:
    update = call(propose_learning, GOOD)
    assert update["noted"] == [{"candidate": {**GOOD, "rationale": ""}}]
    assert update["messages"][0].text == "noted, waiting for review"


@pytest.mark.parametrize(
    ("tool", "args", "more", "says"),
    [
        (remember, {"text": "Ana cycles."}, {"user": None}, "nobody is signed in"),
        (remember, {"text": " "}, {}, "is empty"),
        (remember, {"text": "x" * 3000}, {}, "at most"),
        (propose_learning, GOOD | {"insight": "Maybe it rains in the long run."}, {}, "speculation"),
        (propose_learning, GOOD, {"noted": [{"candidate": {}}]}, "one already"),
        (propose_learning, GOOD, {"others": ["b"]}, "one already"),
    ],
)
def test_what_will_not_take_effect_is_not_called_noted(tool: Any, args: Any, more: Any, says: str) -> None:
    update = call(tool, args, **more)
    assert "noted" not in update
    assert update["messages"][0].text.startswith("not noted: ")
    assert says in update["messages"][0].text


def test_the_model_is_shown_only_what_it_may_fill_in() -> None:
    shown = {tool.name: set(tool.tool_call_schema.model_json_schema()["properties"]) for tool in MEMORY_TOOLS}
    assert shown == {"remember": {"text"}, "propose_learning": {"title", "insight", "applies_when"}}
