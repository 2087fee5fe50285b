"""The law of the tree: whatever is done to a thread, the prompt is the branch's own past and the question.

Hypothesis speaks to a thread, forks it, breaks it and loses its checkpoints, and keeps the tree beside it as plain
Python; after every step both have to agree.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from learngate.graph import build_graph
from learngate.graph.scripted import ScriptedChat
from tests.databases import needs_postgres
from tests.graph.support import ANA, Broken, Fault, rows, say, texts, thread
from tests.stores.conformance.backends import Machine, bound

WINDOW = 5


@dataclass
class Turn:
    """A turn as the test knows it."""

    question: str
    answer: str
    parent: "Turn | None"
    id: str

    def past(self) -> list["Turn"]:
        return [*(self.parent.past() if self.parent else []), self]


@dataclass
class Expected:
    """The tree as it should be."""

    head: Turn | None = None
    turns: list[Turn] = field(default_factory=list)

    def branch(self) -> list[Turn]:
        return self.head.past() if self.head else []


class Thread(Machine):
    """One thread and its tree."""

    @initialize()
    def open(self) -> None:
        self.expected = Expected()
        self.model = ScriptedChat(answers=[self.answer])
        self.count = 0
        self.down = False
        # Where a turn began, and where one ended: the checkpoints that a user may go back to.
        self.begun: list[tuple[dict[str, Any], Turn | None, str, str]] = []
        self.ended: list[tuple[dict[str, Any], Turn]] = []
        self.lose_checkpoints()

    def answer(self, prompt: list[BaseMessage]) -> str:
        if self.down:
            raise ConnectionError("down")
        self.count += 1
        return f"answer {self.count} to {prompt[-1].text}"

    # -- what is done --------------------------------------------------------------------------------------

    @rule()
    def say_something_new(self) -> None:
        words, message_id = self.new()
        self.expect_answer(self.run(say(words, message_id)), words, self.expected.head)
        self.note(message_id, words)

    @rule()
    def say_something_without_an_id(self) -> None:
        words, _ = self.new()
        result = self.run(say(words))
        self.expect_answer(result, words, self.expected.head)
        self.note(result["messages"][-2].id, words)

    @precondition(lambda self: self.expected.head)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.expected.branch()))
        asked = len(self.model.prompts)
        result = self.run(say(turn.question, turn.id))
        assert texts(result["messages"])[-2:] == [turn.question, turn.answer]
        assert len(self.model.prompts) == asked

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def answer_again(self, data: st.DataObject) -> None:
        config, parent, _, words = data.draw(st.sampled_from(self.begun))
        self.expect_answer(self.run(None, config), words, parent)

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        config, parent, message_id, _ = data.draw(st.sampled_from(self.begun))
        words, _ = self.new()
        fork = self.graph.update_state(config, {"messages": [HumanMessage(words, id=message_id)]})
        self.expect_answer(self.run(None, fork), words, parent)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def go_back_and_say(self, data: st.DataObject) -> None:
        config, parent = data.draw(st.sampled_from(self.ended))
        words, message_id = self.new()
        self.expect_answer(self.run(say(words, message_id), config), words, parent)

    @rule(goes_on=st.sampled_from(["not", "on", "again"]))
    def fail(self, goes_on: str) -> None:
        words, message_id = self.new()
        self.down = True
        try:
            self.run(say(words, message_id))
        except ConnectionError:
            self.down = False
        if goes_on != "not":
            given = None if goes_on == "on" else say(words, message_id)
            self.expect_answer(self.run(given), words, self.expected.head)
            self.note(message_id, words)

    @rule(goes_on=st.sampled_from(["not", "on", "again"]), node=st.sampled_from(["respond", "save_turn"]))
    def break_before(self, goes_on: str, node: str) -> None:
        words, message_id = self.new()
        self.graph.invoke(say(words, message_id), self.thread, context=ANA, interrupt_before=[node])
        if goes_on != "not":
            given = None if goes_on == "on" else say(words, message_id)
            self.expect_answer(self.run(given), words, self.expected.head)
            self.note(message_id, words)

    @rule(goes_on=st.sampled_from(["not", "on", "again"]))
    def break_after_recording(self, goes_on: str) -> None:
        words, message_id = self.new()
        try:
            self.run(say(words, message_id), {**self.thread, "callbacks": [Fault("save_turn", "after")]})
        except Broken:
            [row] = [row for row in rows(self.memory)["turns"] if row["id"] == message_id]
        recorded = self.memory.sessions.get("s", row["id"])
        self.grow(words, recorded.answer, self.expected.head, message_id)
        if goes_on != "not":
            result = self.run(None if goes_on == "on" else say(words, message_id))
            assert texts(result["messages"])[-2:] == [words, recorded.answer]

    @rule()
    def lose_checkpoints(self) -> None:
        self.graph = build_graph(
            self.memory, model=self.model, reflection="off", checkpointer=InMemorySaver(), name="agent"
        )
        self.thread = thread("s")
        self.begun, self.ended = [], []
        self.expected.head = self.expected.turns[-1] if self.expected.turns else None

    # -- what is expected ----------------------------------------------------------------------------------

    @invariant()
    def the_rows_are_the_tree(self) -> None:
        if not hasattr(self, "expected"):
            return
        recorded = self.memory.sessions.turns("s", [row["id"] for row in rows(self.memory)["turns"]])
        assert [(t.id, t.question, t.answer, t.parent) for t in recorded] == [
            (t.id, t.question, t.answer, t.parent.id if t.parent else "") for t in self.expected.turns
        ]

    def new(self) -> tuple[str, str]:
        self.count += 1
        return f"question {self.count}", f"id-{self.count}"

    def run(self, given: Any, config: Any = None) -> dict[str, Any]:
        return self.graph.invoke(given, config or self.thread, context=ANA)

    def grow(self, words: str, answer: str, parent: Turn | None, turn_id: str) -> None:
        turn = Turn(words, answer, parent, turn_id)
        self.expected.turns.append(turn)
        self.expected.head = turn

    def expect_answer(self, result: dict[str, Any], words: str, parent: Turn | None) -> None:
        """Expect the branch's past and the question in the prompt, and its answer as the result."""
        past = parent.past()[-WINDOW:] if parent else []
        expected = [text for turn in past for text in (turn.question, turn.answer)]
        assert texts(self.model.prompts[-1][1:]) == [*expected, words]
        asked, answered = result["messages"][-2:]
        assert asked.text == words
        self.grow(words, answered.text, parent, asked.id)
        snapshot = self.graph.get_state(self.thread)
        assert snapshot.next == ()
        self.ended.append((snapshot.config, self.expected.turns[-1]))

    def note(self, message_id: str, words: str) -> None:
        """Note the checkpoint at which the last message had just come."""
        turn = self.expected.turns[-1]
        for snapshot in self.graph.get_state_history(self.thread):
            if snapshot.next == ("begin_turn",) and snapshot.values["messages"][-1].id == message_id:
                self.begun.append((snapshot.config, turn.parent, message_id, words))
                return


TestThreadInMemory = bound(Thread, "memory", share=0.3, steps=12)
TestThreadOnPostgres = needs_postgres(bound(Thread, "postgres", share=0.06, steps=12))
