"""Killed at every write: of a turn, of a decision, of each call of the stores."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Command

from learngate.graph import Context, reflect_pending
from learngate.graph.inbox import resume_decided
from learngate.stores import Decision, Memory, MemoryOperation, ProposalDraft, Turn
from tests.graph.support import ANA, QUESTION, full_graph, full_model, once, opened, run, teach, thread
from tests.reliability.counting import Count, Databases, Scenario, Tally, made, processes
from tests.reliability.points import Points
from tests.reliability.rows import check_whole, compare, normal

SCENARIOS: list[Scenario] = []
S = thread("s")
KIM = Context("ana", "finance", reviewer="kim")
DURABILITIES = ("sync", "async", "exit")

EDITED = "When comparing ETFs, check the expense ratio, the tracking error and the spread."
ANSWERS: dict[str, Any] = {
    "approve": "approve",
    "edit": {"type": "edit", "edited_action": {"name": "save_learning", "args": {"insight": EDITED}}},
    "reject": {"type": "reject", "message": "too narrow"},
}
DECISIONS = {
    "approve": Decision.approve(),
    "edit": Decision.edit(insight=EDITED),
    "reject": Decision.reject("too narrow"),
}


@dataclass(frozen=True)
class Story:
    """A turn that is answered at the gate or in the inbox, and the part of it that a process may die in."""

    dies: str  # "turn": anywhere up to the gate; "decision": after it
    answer: str
    way: str  # "gate" or "inbox"
    durability: str

    def tell(self, memory: Memory, points: Points) -> None:
        """Live through it, and die where the points say."""
        graph = full_graph(memory, full_model())
        if self.dies == "turn":
            points.watch(memory)
        run(graph, QUESTION, S, context=ANA, durability=self.durability)
        if self.dies == "turn":
            return
        points.watch(memory)
        self.answered(memory, graph, durability=self.durability)

    def answered(self, memory: Memory, graph: Any, **options: Any) -> None:
        """Answer what is asked, in the story's way."""
        if self.way == "gate":
            go_on(graph, ANSWERS[self.answer], **options)
            return
        for proposal in memory.learnings.pending(session_id="s"):
            memory.learnings.decide(proposal.id, DECISIONS[self.answer], reviewer="kim")
            resume_decided(graph, proposal.id)


TURNS = [Story("turn", "approve", "gate", durability) for durability in DURABILITIES]
AT_THE_GATE = [Story("decision", answer, "gate", way) for answer in ANSWERS for way in DURABILITIES]
IN_THE_INBOX = [Story("decision", answer, "inbox", way) for answer in ANSWERS for way in DURABILITIES]


def live(url: str, story: Story, fatal: str | None, out: Any) -> None:
    """Live through a story in a process of its own, and say which points it reached."""
    points = Points(fatal)
    with opened(url) as memory:
        story.tell(memory, points)
    out.send(points.reached)


def reached(url: str, story: Story, fatal: str | None) -> list[str] | None:
    """Return the points that a process reached; `None` where it died at one."""
    return in_child(live, url, story, fatal)


def in_child(work: Callable[..., None], *args: Any) -> list[str] | None:
    """Run something in a process of its own; return what it says, `None` where it was killed."""
    here, there = processes.Pipe(duplex=False)
    child = processes.Process(target=work, args=(*args, there))
    child.start()
    there.close()
    try:
        said: list[str] | None = here.recv()
    except EOFError:
        said = None
    child.join()
    here.close()
    assert child.exitcode in (0, -signal.SIGKILL), f"a child ended with {child.exitcode}"
    return said


def left_by(memory: Memory, *models: Any) -> dict[str, Any]:
    answered = [prompt for model in models for prompt in model.prompts]
    reflected = [prompt for model in models for prompt in model.reflected]
    return {"answered": once(answered), "reflected": once(reflected), "rows": normal(memory)}


@cache
def unbroken(answer: str, way: str) -> dict[str, Any]:
    """Return what a run leaves that nothing stops."""
    with opened("sqlite://") as memory:
        teach(memory)
        model = full_model()
        graph = full_graph(memory, model)
        graph.invoke(QUESTION, S, context=ANA)
        Story("decision", answer, way, "sync").answered(memory, graph)
        return left_by(memory, model)


def recovered(url: str, story: Story, where: str, tally: Tally) -> None:
    """Carry on in another process's place, as a host does, and compare what is left with an unbroken run."""
    with opened(url) as memory:
        check_whole(memory, tally, where)
        model = full_model()
        graph = full_graph(memory, model)
        if graph.get_state(S).tasks:
            # What recovers a server knows nothing of answers, users or reviewers: it lets the run go on.
            graph.invoke(None, S)
        else:
            # Nothing is known of the run: the client, who never heard of an answer, sends its message again.
            graph.invoke(QUESTION, S, context=ANA)
        go_on(graph, ANSWERS[story.answer] if story.way == "gate" else None)
        reflect_pending(memory, model=model)
        Story("decision", story.answer, "inbox", "sync").answered(memory, graph)
        if graph.get_state(S).interrupts:
            graph.invoke(Command(resume="decided"), S)
        left, right = left_by(memory, model), unbroken(story.answer, story.way)
        check_whole(memory, tally, where)
        compare(left["rows"], right["rows"], tally, where)
        for kind in ("answered", "reflected"):
            # What this process asks is what the unbroken run would have asked from there on.
            same = left[kind] == right[kind][len(right[kind]) - len(left[kind]) :]
            tally.check(same, "half", f"{where}: another prompt was {kind}")


def go_on(graph: Any, answer: Any, **options: Any) -> None:
    """Go on after a stop, to the end; without an answer, until somebody has to decide.

    The reviewer is named where an answer is given, and nowhere else.
    """
    for _ in range(6):
        state = graph.get_state(S)
        if state.interrupts and answer is not None:
            run(graph, Command(resume=answer), S, context=KIM, **options)
        elif state.tasks and not state.interrupts:
            run(graph, None, S, **options)
        else:
            return
    raise AssertionError(f"the run does not end: {graph.get_state(S)}")


def spread(planned: list[Any], rounds: int) -> list[Any]:
    """Return `rounds` of what is planned, evenly spread, or all of it; mixed, so that any beginning is a sample."""
    step = max(1.0, len(planned) / rounds)
    chosen = [planned[int(number * step)] for number in range(min(rounds, len(planned)))]
    random.Random(3).shuffle(chosen)
    return chosen


def killed(databases: Databases, stories: list[Story], rounds: int) -> Iterator[Count]:
    """Kill at points of the stories: all of them, or `rounds` spread evenly over some."""
    stories = spread(stories, max(1, rounds // 10))
    planned: list[tuple[Story, str]] = []
    taught = databases.ready()
    with opened(taught) as memory:
        teach(memory)
    for story in stories:
        url = databases.copy(taught)
        points = reached(url, story, None)
        databases.drop(url)
        assert points, f"{story} reached no point"
        planned += [(story, point) for point in points]
    for story, point in spread(planned, rounds):
        where = f"{databases.name}, {story.dies} ({story.answer}, {story.way}, {story.durability}), {point}"
        url, tally = databases.copy(taught), Tally()
        # In "async", on an event loop, the checkpointer writes beside the run: the last of it may not come to be.
        died = reached(url, story, point) is None
        recovered(url, story, where, tally)
        databases.drop(url)
        yield tally.count(tries=int(died))


@made(SCENARIOS, long=400, sample=2)
def a_turn(databases: Databases, rounds: int) -> Iterator[Count]:
    """Killed at a write of a turn with tools, memories and a proposal."""
    yield from killed(databases, TURNS, rounds)


@made(SCENARIOS, long=240, sample=2)
def a_decision_at_the_gate(databases: Databases, rounds: int) -> Iterator[Count]:
    """Killed at a write of a decision taken at the gate."""
    yield from killed(databases, AT_THE_GATE, rounds)


@made(SCENARIOS, long=120, sample=1)
def a_decision_in_the_inbox(databases: Databases, rounds: int) -> Iterator[Count]:
    """Killed at a write of a decision taken in the inbox."""
    yield from killed(databases, IN_THE_INBOX, rounds)


# -- the stores without a graph -----------------------------------------------------------------------------

SOURCE = ("s", "past-1")
CALLS: dict[str, Callable[[Memory], object]] = {
    "append": lambda memory: memory.sessions.append(
        Turn("s", (HumanMessage("And gold?"), AIMessage("It pays nothing.")), id="more", user_id="ana")
    ),
    "open a session": lambda memory: memory.sessions.claim("another", "ana"),
    "delete a session": lambda memory: memory.sessions.delete("s"),
    "remember": lambda memory: memory.users.remember("ana", "Ana likes tea."),
    "update a memory": lambda memory: memory.users.update("ana", 1, "Ana wants no costs at all.", pinned=True),
    "forget": lambda memory: memory.users.forget("ana", 1),
    "erase": lambda memory: memory.users.erase("ana"),
    "apply": lambda memory: memory.users.apply(
        "ana",
        [
            MemoryOperation("add", "Ana is 40."),
            MemoryOperation("forget", id=1),
            MemoryOperation("add", "Ana has a cat."),
        ],
        source=SOURCE,
    ),
    "propose": lambda memory: memory.learnings.propose(
        ProposalDraft("Gold", "Gold pays nothing."), namespace="finance"
    ),
    "propose once": lambda memory: memory.learnings.propose_once(
        ProposalDraft("Gold", "Gold pays nothing."), namespace="finance", proposer="m", user_id="ana", source=SOURCE
    ),
    "approve": lambda memory: memory.learnings.decide(2, Decision.approve(), reviewer="kim"),
    "edit and approve": lambda memory: memory.learnings.decide(2, Decision.edit(title="T"), reviewer="kim"),
    "reject": lambda memory: memory.learnings.decide(2, Decision.reject("no"), reviewer="kim"),
    "add": lambda memory: memory.learnings.add(
        ProposalDraft("Gold", "Gold pays nothing."), namespace="n", actor="kim"
    ),
    "edit": lambda memory: memory.learnings.edit(1, insight="Name the duration first.", actor="kim"),
    "retire": lambda memory: memory.learnings.retire(1, actor="kim"),
}


def call(url: str, name: str, fatal: str | None, out: Any) -> None:
    points = Points(fatal)
    with opened(url) as memory:
        memory.checkpointer()
        points.watch(memory)
        CALLS[name](memory)
    out.send(points.reached)


@made(SCENARIOS, long=200, sample=2)
def a_call(databases: Databases, rounds: int) -> Iterator[Count]:
    """Killed at a write of one call of a store: all of it is there, or nothing."""
    planned: list[tuple[str, str, bool, dict[str, Any]]] = []
    prepared = databases.ready()
    with opened(prepared) as memory:
        teach(memory)
        memory.learnings.propose(ProposalDraft("Silver", "Silver is no gold."), namespace="finance")
        before = normal(memory)
    for name in spread([*CALLS], max(1, rounds // 10)):
        url = databases.copy(prepared)
        points = in_child(call, url, name, None)
        assert points, f"{name} reached no point"
        with opened(url) as memory:
            done = normal(memory)
        databases.drop(url)
        planned += [(name, point, point == points[-1], done) for point in points]
    for name, point, returned, done in spread(planned, rounds):
        url = databases.copy(prepared)
        tally, where = Tally(), f"{databases.name}, {name}, {point}"
        died = in_child(call, url, name, point) is None
        with opened(url) as memory:
            check_whole(memory, tally, where)
            left = normal(memory)
        if returned or left not in (before, done):
            compare(left, done, tally, where)
        databases.drop(url)
        yield tally.count(tries=int(died))
