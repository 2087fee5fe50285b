"""How state is merged, and what stays of it after every stop."""

import json
import typing

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from learngate.nodes import Input, Output, State
from learngate.nodes.state import collect, merge_recall, turn_messages
from tests.nodes.support import outcome, state, turn


def test_the_recalling_nodes_each_write_their_own_kind() -> None:
    merged = merge_recall({"history": [], "memories": [{"id": 1}]}, {"memories": [], "learnings": [{"id": 2}]})  # type: ignore[list-item,typeddict-item]
    assert merged == {"history": [], "memories": [], "learnings": [{"id": 2}]}
    assert merge_recall(None, None) == {}


def test_what_is_noted_adds_up_until_it_starts_anew() -> None:
    assert collect(None, [{"a": 1}]) == [{"a": 1}]
    assert collect([{"a": 1}], [{"b": 2}]) == [{"a": 1}, {"b": 2}]
    assert collect([{"a": 1}], None) == []


def test_a_turns_messages_are_those_from_its_question_on() -> None:
    said = [
        HumanMessage("1", id="o"),
        AIMessage("re: 1", id="p"),
        HumanMessage("2", id="q"),
        AIMessage("re: 2", id="r"),
    ]
    assert turn_messages(state(*said)) == said[2:]


def test_state_without_its_messages_is_plain_json() -> None:
    whole = {"turn": turn(), "head": "", "outcome": outcome({"op": "add"}), "noted": [], "review": None}
    assert json.loads(json.dumps(whole)) == whole
    serde = JsonPlusSerializer(allowed_msgpack_modules=[])
    assert serde.loads_typed(serde.dumps_typed(whole)) == whole


def test_input_and_output_are_narrower_than_state() -> None:
    assert set(typing.get_type_hints(Input)) < set(typing.get_type_hints(State))
    assert set(typing.get_type_hints(Output)) == {"messages", "recall", "proposal"}
