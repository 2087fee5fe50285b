"""A proposal outlives its pause: new messages, decisions taken elsewhere, old checkpoints, racing resumes."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from learngate.graph import aresume_decided, build_graph, resume_decided
from learngate.graph.scripted import ScriptedChat, learning
from learngate.stores import AlreadyDecided, Conflict, Decision, Memory, NotFound, ProposalDraft
from tests.graph.support import ANA, INSIGHT, carry_on, opened, proposing, rows, say, texts, thread

S = thread("s")
OTHER = "Before comparing bond ETFs, match their average duration."


@pytest.fixture
def graph(memory: Memory) -> Any:
    graph = build_graph(memory, model=proposing())
    graph.invoke(say("How do I go about comparing ETFs?", "q1"), S, context=ANA)
    return graph


def approve(memory: Memory) -> None:
    memory.learnings.decide(1, Decision.approve(), reviewer="kim")


def taken(memory: Memory) -> tuple[int, int, int]:
    found = rows(memory)
    return len(found["decisions"]), len(found["learnings"]), len(found["revisions"])


def test_it_is_in_the_inbox_before_the_run_pauses(memory: Memory) -> None:
    graph = build_graph(memory, model=proposing())
    graph.invoke(say("Comparing ETFs?"), S, context=ANA, interrupt_before=["review_learning"])
    assert [one.insight for one in memory.learnings.pending(session_id="s")] == [INSIGHT]


def test_a_new_message_while_paused_leaves_the_proposal_in_the_inbox(graph: Any, memory: Memory) -> None:
    result = graph.invoke(say("Something else", "q2"), S, context=ANA)
    assert "__interrupt__" not in result
    assert result["proposal"] is None
    assert [one.id for one in memory.learnings.pending(session_id="s")] == [1]
    assert [turn.id for turn in memory.sessions.window("s")] == ["q1", "q2"]
    approve(memory)
    assert [one.insight for one in memory.learnings.list(namespace="finance")] == [INSIGHT]


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ["approve", "reject", "rubbish"])
@pytest.mark.parametrize("leaving", [say("Something else", "q2"), Command(resume="later")])
async def test_a_late_answer_to_an_abandoned_pause_is_refused(
    graph: Any, memory: Memory, leaving: Any, answer: str
) -> None:
    graph.invoke(leaving, S, context=ANA)
    with pytest.raises(Conflict, match=r"does not wait for an answer.*learngate review"):
        graph.invoke(Command(resume=answer), S)
    with pytest.raises(Conflict, match="does not wait for an answer"):
        await graph.ainvoke(Command(resume=answer), S)
    assert taken(memory) == (0, 0, 0)
    assert len(memory.learnings.pending(session_id="s")) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ["approve", "reject", "rubbish"])
async def test_a_second_answer_brings_the_first_decision_back(graph: Any, memory: Memory, answer: str) -> None:
    graph.invoke(Command(resume="approve"), S)
    for result in (graph.invoke(Command(resume=answer), S), await graph.ainvoke(Command(resume=answer), S)):
        assert (result["proposal"]["status"], "__interrupt__" in result) == ("approved", False)
    assert taken(memory) == (1, 1, 1)


class FailsOnce(InMemorySaver):
    """Loses one checkpoint, when it is told to."""

    fails = False

    def put(self, *args: Any, **named: Any) -> Any:
        if self.fails:
            self.fails = False
            raise OSError("no space")
        return super().put(*args, **named)


def test_an_answer_whose_checkpoint_was_lost_may_be_delivered_again(memory: Memory) -> None:
    saver = FailsOnce()
    graph = build_graph(memory, model=proposing(), checkpointer=saver)
    graph.invoke(say("Comparing ETFs?"), S, context=ANA)

    class LosesTheNext(BaseCallbackHandler):
        run_inline = True

        def on_chain_start(self, *_: Any, name: str | None = None, **__: Any) -> None:
            saver.fails = saver.fails or name == "review_learning"

    with pytest.raises(OSError, match="no space"):
        graph.invoke(Command(resume="approve"), {**S, "callbacks": [LosesTheNext()]})
    assert taken(memory) == (0, 0, 0)
    assert graph.invoke(Command(resume="approve"), S)["proposal"]["status"] == "approved"
    assert taken(memory) == (1, 1, 1)


def test_answers_a_little_apart_are_all_told_the_decision(tmp_path: Any) -> None:
    with opened(f"sqlite:///{tmp_path / 'x.db'}") as memory:
        for number in range(15):
            config = thread(f"s{number}")
            graph = build_graph(
                memory, model=ScriptedChat(reflections=[learning(f"ETF {number}", f"{INSIGHT} {number}")])
            )
            graph.invoke(say("Comparing ETFs?"), config, context=ANA)

            def answered(late: int, graph: Any = graph, config: Any = config) -> str:
                time.sleep(late * 0.003)
                return str(graph.invoke(Command(resume="approve"), config)["proposal"]["status"])

            with ThreadPoolExecutor(3) as threads:
                assert [*threads.map(answered, range(3))] == ["approved"] * 3


def test_the_newer_of_two_proposals_is_the_one_that_is_answered(memory: Memory) -> None:
    model = ScriptedChat(reflections=[learning("ETFs", INSIGHT), learning("Bonds", OTHER)])
    graph = build_graph(memory, model=model)
    graph.invoke(say("Comparing ETFs?"), S, context=ANA)
    graph.invoke(say("And bonds?"), S, context=ANA)
    graph.invoke(Command(resume="approve"), S)
    assert [one.insight for one in memory.learnings.list(namespace="finance")] == [OTHER]
    assert [one.insight for one in memory.learnings.pending(session_id="s")] == [INSIGHT]


# -- decided in the inbox ----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["approve", "reject", "decided", {"type": "edit", "insight": "Something else."}])
def test_a_paused_thread_finds_what_was_decided_in_the_inbox(graph: Any, memory: Memory, answer: Any) -> None:
    approve(memory)
    result = graph.invoke(Command(resume=answer), S)
    assert "__interrupt__" not in result
    assert (result["proposal"]["status"], result["proposal"]["decided_by"]) == ("approved", "kim")
    assert taken(memory) == (1, 1, 1)
    assert memory.learnings.get(1).insight == INSIGHT


def test_decided_where_nobody_decided_asks_again(graph: Any, memory: Memory) -> None:
    [asked] = graph.invoke(Command(resume="decided"), S)["__interrupt__"]
    assert "has not been decided" in asked.value["problem"]
    assert taken(memory) == (0, 0, 0)


def test_resume_decided_lets_the_thread_go_on(graph: Any, memory: Memory) -> None:
    approve(memory)
    result = resume_decided(graph, 1)
    assert result is not None
    assert result["proposal"]["learning_id"] == 1
    assert graph.get_state(S).next == ()
    assert resume_decided(graph, 1) is None


def test_resume_decided_async(graph: Any, memory: Memory) -> None:
    memory.learnings.decide(1, Decision.reject("no"), reviewer="kim")
    result = asyncio.run(aresume_decided(graph, 1))
    assert result is not None
    assert result["proposal"]["status"] == "rejected"
    assert asyncio.run(aresume_decided(graph, 1)) is None


def test_resume_decided_of_what_is_not_decided_or_not_there(graph: Any, memory: Memory) -> None:
    for proposal_id in (1, 7):
        with pytest.raises(NotFound):
            resume_decided(graph, proposal_id)
        with pytest.raises(NotFound):
            asyncio.run(aresume_decided(graph, proposal_id))
    assert graph.get_state(S).interrupts


def test_resume_decided_leaves_a_thread_alone_that_waits_for_another(memory: Memory) -> None:
    model = ScriptedChat(reflections=[learning("ETFs", INSIGHT), learning("Bonds", OTHER)])
    graph = build_graph(memory, model=model)
    graph.invoke(say("Comparing ETFs?"), S, context=ANA)
    graph.invoke(say("And bonds?"), S, context=ANA)
    approve(memory)
    assert resume_decided(graph, 1) is None
    assert graph.get_state(S).interrupts[0].value["proposal"]["id"] == 2


def test_resume_decided_of_a_proposal_that_no_thread_made(graph: Any, memory: Memory) -> None:
    made = memory.learnings.propose(ProposalDraft("Bonds", OTHER), namespace="finance")
    memory.learnings.decide(made.id, Decision.approve(), reviewer="kim")
    assert resume_decided(graph, made.id) is None


def test_with_its_checkpoints_lost_a_proposal_is_decided_all_the_same(graph: Any, memory: Memory) -> None:
    approve(memory)
    again = build_graph(memory, model=ScriptedChat(), checkpointer=InMemorySaver())
    assert resume_decided(again, 1) is None
    assert taken(memory) == (1, 1, 1)


# -- once --------------------------------------------------------------------------------------------------


def test_two_resumes_at_once_are_one_decision(graph: Any, memory: Memory) -> None:
    together = threading.Barrier(2)

    def resume(answer: str) -> dict[str, Any]:
        together.wait(30)
        return graph.invoke(Command(resume=answer), S)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(resume, ["approve", "reject"]))
    decision = memory.learnings.decision(1)
    assert {result["proposal"]["status"] for result in results} == {
        {"approve": "approved", "reject": "rejected"}[decision.type]
    }
    assert taken(memory)[0] == 1
    assert taken(memory)[1:] in {(0, 0), (1, 1)}


def test_many_resumes_at_once_async(graph: Any, memory: Memory) -> None:
    async def race() -> list[dict[str, Any]]:
        return await asyncio.gather(*(graph.ainvoke(Command(resume="approve"), S) for _ in range(5)))

    results = asyncio.run(race())
    assert {result["proposal"]["learning_id"] for result in results} == {1}
    assert taken(memory) == (1, 1, 1)


def test_a_thread_and_the_inbox_at_once_are_one_decision(graph: Any, memory: Memory) -> None:
    together = threading.Barrier(2)

    def by_thread() -> str:
        together.wait(30)
        return graph.invoke(Command(resume="approve"), S)["proposal"]["status"]

    def by_inbox() -> str:
        together.wait(30)
        try:
            memory.learnings.decide(1, Decision.reject(), reviewer="kim")
        except AlreadyDecided as first:
            return {"approve": "approved"}[first.decision.type]
        return "rejected"

    with ThreadPoolExecutor(2) as pool:
        said = {future.result() for future in (pool.submit(by_thread), pool.submit(by_inbox))}
    assert said == {memory.learnings.proposal(1).status}
    assert taken(memory)[0] == 1


@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_a_resume_from_the_checkpoint_before_the_decision_changes_nothing(
    graph: Any, memory: Memory, answer: str
) -> None:
    paused = graph.get_state(S).config
    graph.invoke(Command(resume="approve"), S)
    before = rows(memory)
    result = graph.invoke(Command(resume=answer), paused)
    assert result["proposal"]["status"] == "approved"
    assert rows(memory) == before


def test_every_checkpoint_of_the_turn_run_again_decides_and_stores_nothing_anew(graph: Any, memory: Memory) -> None:
    graph.invoke(Command(resume="approve"), S)
    before = rows(memory)
    for snapshot in list(graph.get_state_history(S)):
        if snapshot.next and snapshot.next[0] in {
            "reflect",
            "propose_learning",
            "review_learning",
            "save_learning",
        }:
            graph.invoke(None, snapshot.config)
            carry_on(graph, S)
    assert rows(memory) == before


# -- where it cannot pause ---------------------------------------------------------------------------------


def test_with_pause_off_it_waits_in_the_inbox_only(memory: Memory) -> None:
    graph = build_graph(memory, model=proposing(), pause=False)
    result = graph.invoke(say("Comparing ETFs?"), S, context=ANA)
    assert "__interrupt__" not in result
    assert result["proposal"]["status"] == "pending"
    assert graph.get_state(S).next == ()
    assert [one.insight for one in memory.learnings.pending(namespace="finance")] == [INSIGHT]
    assert "review_learning" not in graph.get_graph().nodes
    approve(memory)
    assert resume_decided(graph, 1) is None


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_with_no_checkpointer_the_answer_works_and_the_proposal_waits_in_the_inbox(
    memory: Memory, colour: str
) -> None:
    graph = build_graph(memory, model=proposing(), checkpointer=None)
    asked = say("Comparing ETFs?")
    if colour == "sync":
        result = graph.invoke(asked, S, context=ANA)
    else:
        result = asyncio.run(graph.ainvoke(asked, S, context=ANA))
    assert "__interrupt__" not in result
    assert result["messages"][-1].text == "Noted."
    assert [one.insight for one in memory.learnings.pending(namespace="finance")] == [INSIGHT]
    # A thread without checkpoints still remembers: its past comes from SQL.
    graph.invoke(say("And now?"), S, context=ANA)
    assert [turn.question for turn in memory.sessions.window("s")] == ["Comparing ETFs?", "And now?"]


def test_what_is_asked_on_one_saver_is_answered_in_another_process(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(url) as memory:
        build_graph(memory, model=proposing()).invoke(say("Comparing ETFs?"), S, context=ANA)
    with opened(url) as memory:
        graph = build_graph(memory, model=ScriptedChat(answers=["never asked"]))
        result = graph.invoke(Command(resume="approve"), S)
        assert texts(result["messages"]) == ["Comparing ETFs?", "Noted."]
        assert taken(memory) == (1, 1, 1)
    # LangGraph would log here what it will refuse to read from checkpoints one day.
    assert caplog.records == []
