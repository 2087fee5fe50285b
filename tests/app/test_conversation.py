"""Ctrl-C anywhere in a turn: the turn is in the database or it is not, and what is said about it is true."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from learngate.app.conversation import Conversation
from learngate.app.streaming import Silent
from learngate.graph import Context
from learngate.graph.scripted import Reflection, ScriptedChat
from learngate.nodes.reflection import Candidate, MemoryChange
from learngate.stores import Decision, NotAllowed, open_memory
from tests.app.support import RULE

FOUND = Reflection(
    memories=[MemoryChange(op="add", text="The user compares ETFs.")],
    learning=Candidate(title="ETFs", insight=RULE),
)
BEFORE = {
    "begin": ("sessions", "place", False),
    "history": ("sessions", "window", False),
    "memories": ("users", "recall", False),
    "learnings": ("learnings", "search", False),
    "saving": ("sessions", "record", True),
    "remembering": ("users", "apply", True),
    "proposing": ("learnings", "propose_once", True),
}


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def memory():
    with open_memory("sqlite://") as opened:
        yield opened


@pytest.fixture
def talk(memory):
    opened = []

    def talk(model, session="s", user="ana"):
        opened.append(Conversation(memory, model=model, session_id=session, context=Context(user)))
        return opened[-1]

    yield talk
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("step", "when"),
    [*((step, "before") for step in BEFORE), *((step, "after") for step in ("saving", "remembering", "proposing"))],
)
def test_ctrl_c_at_any_step_leaves_a_turn_or_none_and_says_which(step, when, memory, talk, monkeypatch):
    store, name, recorded = BEFORE[step]
    real = getattr(getattr(memory, store), name)
    model = ScriptedChat(answers=["one", "two"], reflections=[FOUND, None])
    conversation = talk(model)
    looked = threading.Event()
    recorded_turn = conversation.recorded

    def look(turn_id):
        looked.set()
        return recorded_turn(turn_id)

    def stopped(*args, **options):
        if when == "before":
            ctrl_c()
            if step == "saving":  # nobody may look before the turn is there: give them the time to
                looked.wait(0.5)
        result = real(*args, **options)
        if when == "after":
            ctrl_c()
        return result

    with monkeypatch.context() as patched:
        patched.setattr(getattr(memory, store), name, stopped)
        patched.setattr(conversation, "recorded", look)
        said = conversation.say("first", Silent())
    assert said.stopped
    assert said.error is None
    assert said.recorded is recorded
    assert bool(model.reflected) is (step in {"remembering", "proposing"})
    turns = [turn.question for turn in memory.sessions.window("s")]
    assert turns == (["first"] if recorded else [])
    again = conversation.say("second", Silent())
    assert again.recorded
    asked = [message.text for message in model.prompts[-1]]
    assert ("first" in asked) is recorded
    assert asked[-1] == "second"
    assert again.turn.parent == (said.turn_id if recorded else "")


@pytest.mark.parametrize("part", ["answers", "reflections"])
def test_ctrl_c_gives_up_a_call_that_never_comes_back(part, memory, talk):
    release, came_back = threading.Event(), threading.Event()

    class Hanging(ScriptedChat):
        def _reply(self, messages, tools):
            reflecting = any(tool["name"] == "Reflection" for tool in tools)
            if reflecting == (part == "reflections"):
                ctrl_c()
                release.wait(20)
                came_back.set()
            return super()._reply(messages, tools)

    conversation = talk(Hanging(answers=["one"], reflections=[FOUND]))
    try:
        said = conversation.say("first", Silent())
        assert said.stopped
        assert said.recorded is (part == "reflections")
        assert not came_back.is_set()
    finally:
        release.set()
    assert memory.users.list("ana") == []
    assert memory.learnings.pending(namespace="default") == []


def test_a_call_that_was_given_up_does_not_keep_the_process(tmp_path):
    code = """
import os, signal, threading
from learngate.app.conversation import Conversation
from learngate.app.streaming import Silent
from learngate.graph import Context
from learngate.graph.scripted import ScriptedChat
from learngate.stores import open_memory

def hang(_):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

with open_memory("sqlite:///learngate.db") as memory:
    talk = Conversation(memory, model=ScriptedChat(answers=[hang]), session_id="s", context=Context())
    print(talk.say("first", Silent()).stopped)
    talk.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_ctrl_c_at_the_gate_waits_until_the_decision_is_stored(memory, talk, monkeypatch):
    conversation = talk(ScriptedChat(reflections=[FOUND]))
    assert conversation.say("first", Silent()).asks
    real = memory.learnings.decide

    def decide(*args, **options):
        ctrl_c()
        return real(*args, **options)

    monkeypatch.setattr(memory.learnings, "decide", decide)
    said = conversation.answer(Decision.approve(), Silent())
    assert (said.stopped, said.proposal["status"]) == (False, "approved")
    assert len(memory.learnings.list(namespace="default")) == 1


def test_a_run_that_ended_leaves_ctrl_c_as_it_was(talk):
    before = signal.getsignal(signal.SIGINT)
    talk(ScriptedChat()).say("first", Silent())
    assert signal.getsignal(signal.SIGINT) is before


def test_strangers_are_refused_before_anything_is_shown(memory, talk):
    talk(ScriptedChat(), user="ana").say("first", Silent())
    for stranger in ("ben", None):
        with pytest.raises(NotAllowed, match=r"is not (ben|nobody)'s"):
            talk(ScriptedChat(), user=stranger)


def test_what_the_answer_was_is_told_even_where_no_model_spoke_it(memory, talk):
    pieces = []

    class Heard(Silent):
        def piece(self, text):
            pieces.append(text)

    said = talk(ScriptedChat(answers=["four words in all"])).say("first", Heard())
    assert "".join(pieces) == said.answer == said.turn.answer == "four words in all"
    assert len(pieces) > 1


def test_changed_and_forgotten_memories_are_told(memory, talk):
    kept = memory.users.remember("ana", "The user lives in Rome.")
    gone = memory.users.remember("ana", "The user owns a car.")
    moved = Reflection(
        memories=[
            MemoryChange(op="update", id=kept.id, text="The user lives in Oslo."),
            MemoryChange(op="forget", id=gone.id),
            MemoryChange(op="add", text="The user skis."),
        ]
    )
    said = talk(ScriptedChat(reflections=[moved])).say("I moved to Oslo", Silent())
    assert [(one.change, one.memory.text) for one in said.changes] == [
        ("updated", "The user lives in Oslo."),
        ("forgot", "The user owns a car."),
        ("remembered", "The user skis."),
    ]
