from dataclasses import FrozenInstanceError

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from learngate.stores import Decision, MemoryHit, Turn, records
from learngate.stores.records import now
from tests.stores.support import turn


def test_a_turn_knows_its_question_and_its_last_words():
    messages = (
        HumanMessage([{"type": "text", "text": "What does "}, {"type": "text", "text": "it cost?"}]),
        AIMessage("Let me look.", tool_calls=[{"name": "quote", "args": {}, "id": "c1"}]),
        ToolMessage("901", tool_call_id="c1"),
    )
    asked = Turn("s", messages)
    assert asked.question == "What does it cost?"
    assert asked.answer == "Let me look."
    assert Turn("s", (*messages, AIMessage("901."), AIMessage(""))).answer == "901."
    assert Turn("s", ()).question == Turn("s", ()).answer == ""


def test_turns_get_ids_of_their_own_and_a_time_with_a_zone():
    one, other = turn("s"), turn("s")
    assert one.id != other.id
    assert one.happened_at.utcoffset() == now().utcoffset()


def test_a_decision_is_one_of_three():
    assert Decision.approve("good") == Decision("approve", note="good")
    assert Decision.edit(title="T") == Decision("edit", title="T")
    assert Decision.reject() == Decision("reject")


def test_what_the_stores_give_cannot_be_changed(memory):
    stored = memory.users.remember("ana", "likes tea")
    with pytest.raises(FrozenInstanceError):
        stored.text = "likes coffee"
    assert MemoryHit(stored, 1.0).text == "likes tea"
    kinds = [kind for kind in vars(records).values() if hasattr(kind, "__dataclass_fields__")]
    assert len(kinds) >= 15
    assert all(kind.__dataclass_params__.frozen for kind in kinds)
