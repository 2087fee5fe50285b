"""The session as a tree: forks continue from their own past, and a message that is delivered twice is one turn."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from learngate.graph import Budgets, build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Memory, Turn
from tests.graph.support import ANA, Broken, Fault, rows, say, texts, thread


def echo(prompt: list[BaseMessage]) -> str:
    return f"re: {prompt[-1].text}"


class Chat:
    """One thread, spoken to in few words."""

    def __init__(self, memory: Memory, **options: Any) -> None:
        self.memory = memory
        self.model = ScriptedChat(answers=[echo])
        self.graph = build_graph(memory, model=self.model, reflection="off", **options)
        self.thread = thread("s")

    def say(self, words: str, message_id: str | None = None, at: Any = None) -> list[str]:
        result = self.graph.invoke(say(words, message_id), at or self.thread, context=ANA)
        return texts(result["messages"])

    def before(self, turn_id: str) -> dict[str, Any]:
        """Return the config of the checkpoint at which a turn's message had just come."""
        for snapshot in self.graph.get_state_history(self.thread):
            messages = snapshot.values.get("messages") or []
            if snapshot.next == ("begin_turn",) and messages[-1].id == turn_id:
                return snapshot.config
        raise AssertionError(f"no checkpoint before {turn_id}")

    def again(self, config: dict[str, Any]) -> list[str]:
        """Run on from a checkpoint, as Studio's and the chat UIs' "regenerate" do."""
        return texts(self.graph.invoke(None, config)["messages"])

    def edit(self, turn_id: str, words: str) -> dict[str, Any]:
        """Put other words into a message that keeps its id, at the checkpoint at which it came."""
        update = {"messages": [HumanMessage(words, id=turn_id)]}
        return self.graph.update_state(self.before(turn_id), update)

    @property
    def prompt(self) -> list[str]:
        """What the model was asked last, without the instructions."""
        return texts(self.model.prompts[-1][1:])

    def tree(self) -> dict[str, str]:
        """Return each turn's question with that of the turn it follows."""
        turns = {turn.id: turn for turn in self.turns()}
        return {turn.question: turns[turn.parent].question if turn.parent else "" for turn in turns.values()}

    def turns(self) -> list[Turn]:
        ids = [row["id"] for row in rows(self.memory)["turns"]]
        return self.memory.sessions.turns("s", ids)


@pytest.fixture
def chat(memory: Memory) -> Chat:
    chat = Chat(memory)
    for n in (1, 2, 3):
        chat.say(f"q{n}", f"id{n}")
    return chat


def test_turns_of_a_thread_follow_each_other(chat: Chat) -> None:
    assert chat.tree() == {"q1": "", "q2": "q1", "q3": "q2"}
    assert chat.prompt == ["q1", "re: q1", "q2", "re: q2", "q3"]


def test_an_edited_message_is_a_sibling_with_an_id_of_its_own(chat: Chat) -> None:
    shown = chat.again(chat.edit("id2", "q2 edited"))
    assert shown == ["q1", "re: q1", "q2 edited", "re: q2 edited"]
    assert chat.prompt == ["q1", "re: q1", "q2 edited"]
    assert chat.tree() == {"q1": "", "q2": "q1", "q3": "q2", "q2 edited": "q1"}
    ids = [turn.id for turn in chat.turns()]
    assert ids[:3] == ["id1", "id2", "id3"]
    assert len(set(ids)) == 4
    assert chat.memory.sessions.get("s", "id2").question == "q2"


def test_a_fork_continues_from_its_own_past(chat: Chat) -> None:
    chat.again(chat.edit("id2", "q2 edited"))
    assert chat.say("q4", "id4") == ["q1", "re: q1", "q2 edited", "re: q2 edited", "q4", "re: q4"]
    assert chat.prompt == ["q1", "re: q1", "q2 edited", "re: q2 edited", "q4"]
    assert chat.tree()["q4"] == "q2 edited"


def test_the_first_message_can_be_forked_too(chat: Chat) -> None:
    assert chat.again(chat.edit("id1", "q1 edited")) == ["q1 edited", "re: q1 edited"]
    assert chat.prompt == ["q1 edited"]
    chat.say("q4", "id4")
    assert chat.prompt == ["q1 edited", "re: q1 edited", "q4"]
    assert chat.tree() == {"q1": "", "q2": "q1", "q3": "q2", "q1 edited": "", "q4": "q1 edited"}


def test_a_regenerated_answer_is_a_sibling(chat: Chat) -> None:
    assert chat.again(chat.before("id3"))[-2:] == ["q3", "re: q3"]
    assert chat.prompt == ["q1", "re: q1", "q2", "re: q2", "q3"]
    third, fourth = chat.turns()[2:]
    assert (third.question, third.parent) == (fourth.question, fourth.parent) == ("q3", "id2")
    assert third.id != fourth.id


def test_the_first_answer_can_be_regenerated(chat: Chat) -> None:
    assert chat.again(chat.before("id1")) == ["q1", "re: q1"]
    assert chat.prompt == ["q1"]
    assert [turn.parent for turn in chat.turns()] == ["", "id1", "id2", ""]


def test_regenerated_twice_are_two_siblings(chat: Chat) -> None:
    config = chat.before("id2")
    chat.again(config)
    chat.again(config)
    assert [turn.parent for turn in chat.turns()] == ["", "id1", "id2", "id1", "id1"]


@pytest.mark.parametrize("message_id", ["id4", "id2", None], ids=["a new id", "the same id", "no id"])
def test_a_new_message_at_an_old_checkpoint_is_a_branch(chat: Chat, message_id: str | None) -> None:
    """So chat UIs edit: they send the new words to the checkpoint before the old ones."""
    checkpoint = next(
        snapshot.config
        for snapshot in chat.graph.get_state_history(chat.thread)
        if snapshot.next == () and snapshot.values["messages"][-1].text == "re: q1"
    )
    assert chat.say("q2 edited", message_id, at=checkpoint) == ["q1", "re: q1", "q2 edited", "re: q2 edited"]
    assert chat.prompt == ["q1", "re: q1", "q2 edited"]
    chat.say("q5")
    assert chat.prompt == ["q1", "re: q1", "q2 edited", "re: q2 edited", "q5"]
    assert chat.tree() == {"q1": "", "q2": "q1", "q3": "q2", "q2 edited": "q1", "q5": "q2 edited"}


@pytest.mark.parametrize("message_id", ["id4", "id1", None], ids=["a new id", "the same id", "no id"])
def test_a_new_first_message_at_the_first_checkpoint_is_a_branch(chat: Chat, message_id: str | None) -> None:
    *_, first = chat.graph.get_state_history(chat.thread)
    assert first.next == ("__start__",)
    assert chat.say("q1 edited", message_id, at=first.config) == ["q1 edited", "re: q1 edited"]
    assert chat.prompt == ["q1 edited"]
    assert chat.tree()["q1 edited"] == ""


def test_the_same_words_and_id_at_an_old_checkpoint_are_a_new_answer(chat: Chat) -> None:
    checkpoint = next(
        snapshot.config
        for snapshot in chat.graph.get_state_history(chat.thread)
        if snapshot.next == () and snapshot.values["messages"][-1].text == "re: q2"
    )
    chat.say("q3", "id3", at=checkpoint)
    assert [turn.parent for turn in chat.turns()] == ["", "id1", "id2", "id2"]
    assert len(chat.model.prompts) == 4


def test_forks_of_forks(chat: Chat) -> None:
    chat.again(chat.edit("id3", "q3 edited"))
    chat.say("q4", "id4")
    chat.again(chat.edit("id4", "q4 edited"))
    assert chat.prompt == ["q1", "re: q1", "q2", "re: q2", "q3 edited", "re: q3 edited", "q4 edited"]
    assert chat.tree()["q4 edited"] == "q3 edited"
    assert chat.tree()["q4"] == "q3 edited"


def test_a_turn_that_was_forked_away_may_be_delivered_again_on_the_new_branch(chat: Chat) -> None:
    chat.again(chat.edit("id2", "q2 edited"))
    chat.say("q3", "id3")
    assert chat.prompt == ["q1", "re: q1", "q2 edited", "re: q2 edited", "q3"]
    third, fourth, fifth = chat.turns()[2:]
    assert (third.id, third.parent) == ("id3", "id2")
    assert (fifth.question, fifth.parent) == ("q3", fourth.id)


# -- the same message, delivered twice ---------------------------------------------------------------------


def test_the_last_message_delivered_again_is_one_turn(chat: Chat) -> None:
    before = rows(chat.memory)
    assert chat.say("q3", "id3") == ["q1", "re: q1", "q2", "re: q2", "q3", "re: q3"]
    assert len(chat.model.prompts) == 3
    assert rows(chat.memory) == before


def test_an_earlier_message_delivered_again_brings_its_recorded_answer(chat: Chat) -> None:
    before = rows(chat.memory)
    assert chat.say("q1", "id1")[-2:] == ["q1", "re: q1"]
    assert len(chat.model.prompts) == 3
    assert rows(chat.memory) == before
    chat.say("q4", "id4")
    assert chat.prompt == ["q1", "re: q1", "q2", "re: q2", "q3", "re: q3", "q4"]
    assert chat.tree()["q4"] == "q3"


def test_beyond_the_turns_that_state_keeps_it_is_still_one_turn(memory: Memory) -> None:
    chat = Chat(memory, budgets=Budgets(kept_turns=2))
    for n in range(1, 7):
        chat.say(f"q{n}", f"id{n}")
    assert chat.say("q1", "id1")[-1] == "re: q1"
    assert len(chat.model.prompts) == 6
    assert chat.say("q7", "id7") == ["q5", "re: q5", "q6", "re: q6", "q7", "re: q7"]
    assert chat.tree()["q7"] == "q6"


def test_behind_a_question_that_failed_it_still_brings_its_recorded_answer(chat: Chat) -> None:
    chat.graph.invoke(say("failed", "f"), chat.thread, context=ANA, interrupt_before=["respond"])
    for n in (3, 1):
        assert chat.say(f"q{n}", f"id{n}")[-2:] == [f"q{n}", f"re: q{n}"]
    assert len(chat.model.prompts) == len(chat.turns()) == 3


@pytest.mark.parametrize("again", [1, 2, 3])
def test_delivered_again_and_again(chat: Chat, again: int) -> None:
    for _ in range(3):
        assert chat.say(f"q{again}", f"id{again}")[-1] == f"re: q{again}"
    assert len(chat.model.prompts) == 3
    assert len(chat.turns()) == 3


def test_a_redelivered_turn_recalls_and_proposes_nothing(chat: Chat) -> None:
    result = chat.graph.invoke(say("q1", "id1"), chat.thread, context=ANA)
    assert result["recall"] == {"history": [], "memories": [], "learnings": []}
    assert result["proposal"] is None


def test_delivered_from_two_threads_at_once_it_is_one_row(memory: Memory) -> None:
    together = threading.Barrier(2)

    def answer(prompt: list[BaseMessage]) -> str:
        together.wait(30)
        return f"{threading.get_ident()}"

    graph = build_graph(memory, model=ScriptedChat(answers=[answer]), reflection="off")
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: graph.invoke(say("q1", "id1"), thread("s"), context=ANA), range(2)))
    [turn] = memory.sessions.window("s")
    assert [result["messages"][-1].text for result in results] == [turn.answer] * 2
    assert texts(graph.get_state(thread("s")).values["messages"]) == ["q1", turn.answer]


class Meanwhile(BaseCallbackHandler):
    """Records the turn as another run would, when this run is let in and has not begun yet."""

    raise_error = True
    run_inline = True

    def __init__(self, memory: Memory, answer: str) -> None:
        self.memory, self.answer = memory, answer

    def on_chain_start(self, *_: Any, name: str | None = None, **__: Any) -> None:
        if name == "begin_turn":
            said = HumanMessage("more", id="m2"), AIMessage(self.answer, id="a2")
            self.memory.sessions.append(Turn("s", said, id="m2", user_id="ana", namespace="finance"))


@pytest.mark.parametrize("first", [True, False])
def test_answered_by_another_run_while_this_one_begins_it_is_one_turn(memory: Memory, first: bool) -> None:
    chat = Chat(memory)
    if not first:
        chat.say("hello", "m1")
    config = {**chat.thread, "callbacks": [Meanwhile(memory, "the other's answer")]}
    assert chat.say("more", "m2", config)[-2:] == ["more", "the other's answer"]
    assert [row["id"] for row in rows(memory)["turns"]] == (["m2"] if first else ["m1", "m2"])
    assert chat.say("and", "m3")[-4:] == ["more", "the other's answer", "and", "re: and"]


def test_two_messages_at_once_are_both_recorded(memory: Memory) -> None:
    together = threading.Barrier(2)

    def answer(prompt: list[BaseMessage]) -> str:
        if len(prompt) == 2:
            together.wait(30)
        return f"re: {prompt[-1].text}"

    chat = Chat(memory)
    chat.model.answers = [answer]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: chat.say(f"q{n}", f"id{n}"), (1, 2)))
    assert chat.tree() == {"q1": "", "q2": ""}
    chat.say("q3", "id3")
    assert chat.tree()["q3"] in {"q1", "q2"}


# -- checkpoints that are lost -----------------------------------------------------------------------------


@pytest.fixture
def lost(chat: Chat) -> Chat:
    """The same memory under a new saver: all checkpoints are gone, and what is in SQL is there."""
    return Chat(chat.memory, checkpointer=InMemorySaver())


def test_with_its_checkpoints_lost_a_thread_goes_on_from_the_newest_turn(lost: Chat) -> None:
    assert lost.say("q4", "id4") == ["q4", "re: q4"]
    assert lost.prompt == ["q1", "re: q1", "q2", "re: q2", "q3", "re: q3", "q4"]
    assert lost.tree()["q4"] == "q3"


@pytest.mark.parametrize("again", [1, 2, 3])
def test_with_its_checkpoints_lost_a_message_delivered_again_is_one_turn(lost: Chat, again: int) -> None:
    assert lost.say(f"q{again}", f"id{again}")[-2:] == [f"q{again}", f"re: q{again}"]
    assert lost.model.prompts == []
    lost.say("q4", "id4")
    assert lost.tree() == {"q1": "", "q2": "q1", "q3": "q2", "q4": "q3"}


def test_with_its_checkpoints_lost_a_fork_made_newest_is_gone_on_from(chat: Chat) -> None:
    chat.again(chat.edit("id2", "q2 edited"))
    lost = Chat(chat.memory, checkpointer=InMemorySaver())
    lost.say("q4", "id4")
    assert lost.prompt == ["q1", "re: q1", "q2 edited", "re: q2 edited", "q4"]


def die_after_recording(chat: Chat) -> None:
    """Break a run between its turn's record and the checkpoint that would say so."""
    with pytest.raises(Broken):
        chat.say("q4", "id4", at={**chat.thread, "callbacks": [Fault("save_turn", "after")]})
    assert chat.tree()["q4"] == "q3"


def test_a_new_message_follows_a_turn_that_was_recorded_though_its_run_broke(chat: Chat) -> None:
    die_after_recording(chat)
    chat.say("q5", "id5")
    assert chat.prompt[-3:] == ["q4", "re: q4", "q5"]
    assert chat.tree()["q5"] == "q4"


def test_a_message_whose_run_broke_after_it_was_recorded_is_one_turn(chat: Chat) -> None:
    die_after_recording(chat)
    assert chat.say("q4", "id4")[-2:] == ["q4", "re: q4"]
    assert len(chat.model.prompts) == len(chat.turns()) == 4
    chat.say("q5", "id5")
    assert chat.tree()["q5"] == "q4"


# -- what else a host may do to a thread -------------------------------------------------------------------


def test_a_thread_that_a_host_filled_by_hand_is_answered_as_its_users(memory: Memory) -> None:
    chat = Chat(memory)
    chat.graph.update_state(chat.thread, {"messages": [HumanMessage("q1", id="id1")]}, as_node="__start__")
    result = chat.graph.invoke(None, chat.thread, context=ANA)
    assert texts(result["messages"]) == ["q1", "re: q1"]
    assert [(turn.id, turn.user_id) for turn in chat.turns()] == [("id1", "ana")]


def test_an_edit_without_a_context_is_answered_as_the_sessions_own_user(chat: Chat) -> None:
    chat.again(chat.edit("id2", "q2 edited"))
    assert {turn.user_id for turn in chat.turns()} == {"ana"}
    assert {turn.namespace for turn in chat.turns()} == {"finance"}


def test_no_message_of_the_users_is_a_clear_error(memory: Memory) -> None:
    chat = Chat(memory)
    chat.graph.update_state(chat.thread, {"messages": []}, as_node="__start__")
    with pytest.raises(ValueError, match="nothing to answer"):
        chat.graph.invoke(None, chat.thread, context=ANA)


def test_the_same_words_twice_in_one_delivery_are_one_question_with_an_id(memory: Memory) -> None:
    chat = Chat(memory)
    chat.graph.invoke({"messages": [("user", "q1"), ("user", "q1")]}, chat.thread, context=ANA)
    [turn] = chat.turns()
    assert turn.question == "q1\n\nq1"
    assert len(turn.id) == 36


def test_words_that_stand_behind_the_question_are_part_of_the_turn(memory: Memory) -> None:
    """As when an agent before this one in a parent graph has added its own."""
    chat = Chat(memory)
    chat.graph.invoke({"messages": [("user", "q1"), ("ai", "I looked it up: 42.")]}, chat.thread, context=ANA)
    assert chat.prompt == ["q1", "I looked it up: 42."]
    [turn] = chat.turns()
    assert texts(list(turn.messages)) == ["q1", "I looked it up: 42.", "re: I looked it up: 42."]
