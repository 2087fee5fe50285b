"""Answers the gate's question with anything, in a graph that waits there."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langgraph.types import Command

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat, learning
from learngate.nodes.review import Review
from learngate.stores import LearngateError, Memory
from tests.fuzz.calls import Tally, shown
from tests.fuzz.values import ANYTHING, TEXTS, some_odd

KINDS = st.sampled_from(["approve", "edit", "reject", "accept", "later", "respond", "nonsense", "decided"])
WORDS = some_odd({"title": TEXTS, "insight": TEXTS, "applies_when": TEXTS})
EDITED = some_odd({"name": st.just("save_learning"), "args": WORDS})
DECISION = st.one_of(
    some_odd({"type": KINDS}),
    some_odd({"type": KINDS, "message": st.none() | TEXTS}),
    some_odd({"type": KINDS, "args": st.none() | WORDS, "note": TEXTS}),
    some_odd({"type": st.just("edit"), "edited_action": EDITED}),
    some_odd({"decision": KINDS, "title": TEXTS, "insight": TEXTS}),
)
ANSWERS = st.one_of(
    ANYTHING,
    KINDS,
    DECISION,
    st.lists(DECISION, max_size=2),
    st.fixed_dictionaries({"decisions": st.lists(DECISION, max_size=2) | DECISION | ANYTHING}),
    st.sampled_from(
        ['{"type": "approve"}', '["reject"]', '{"type"', "[" * 5_000, '{"a":' * 5_000, "NaN", '"edit"']
    ),
)
CALLER = Context(user_id="ana", namespace="acme")


class Gate:
    """Threads of a graph, one of which waits at the gate."""

    def __init__(self, memory: Memory, examples: int) -> None:
        self._memory = memory
        reflections = [
            learning(f"Rule {n}", f"Mind rule number {n} always, when buying.") for n in range(examples + 1)
        ]
        self._graph = build_graph(memory, model=ScriptedChat(answers=["Noted."], reflections=reflections))
        self._number = 0

    def waiting(self) -> dict[str, Any]:
        """Return the thread that waits, with a new question where the last one is decided."""
        if self._number and self._pending() and self._graph.get_state(self._thread).interrupts:
            return self._thread
        self._number += 1
        self._thread = {"configurable": {"thread_id": f"s{self._number}"}}
        said = {"messages": [("user", f"A rule, please: {self._number}")]}
        self._proposal = self._graph.invoke(said, self._thread, context=CALLER)["proposal"]["id"]
        return self._thread

    def answer(self, tally: Tally, given: Any) -> None:
        """Give an answer: it decides, or is asked for again, or is refused; and nothing else happens."""
        thread = self.waiting()
        problem = None
        try:
            result = self._graph.invoke(Command(resume=given), thread, context=CALLER)
        except LearngateError as error:
            tally.refused[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            problem = f"{type(error).__name__}: {error}"
        else:
            problem = self._outcome(tally, asked="__interrupt__" in result)
        later = problem is None and not self._graph.get_state(thread).interrupts and self._pending()
        if later and Review.model_validate(given).type != "later":
            problem = "nothing waits for an answer any more"
        if problem is not None:
            tally.found.append(f"Command(resume={shown(given)}): {problem[:300]}")

    def _outcome(self, tally: Tally, *, asked: bool) -> str | None:
        if asked and not self._pending():
            return "it is decided, and the run asks"
        if asked or self._pending():
            tally.refused["asked again" if asked else "left for later"] += 1
        else:
            tally.done += 1
        return None

    def _pending(self) -> bool:
        return self._memory.learnings.proposal(self._proposal).status == "pending"


def fuzz_answers(memory: Memory, examples: int, *, derandomize: bool = False) -> Tally:
    """Answer the gate's question a number of times."""
    tally = Tally()
    gate = Gate(memory, examples)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(ANSWERS)
    def run(answer: Any) -> None:
        gate.answer(tally, answer)

    run()
    return tally


def fuzz_reading(examples: int, *, derandomize: bool = False) -> Tally:
    """Read a number of answers, without a graph."""
    tally = Tally()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(ANSWERS)
    def run(answer: Any) -> None:
        try:
            review = Review.model_validate(answer)
            if review.type in {"approve", "edit", "reject"}:
                review.decision()
                tally.done += 1
            else:
                tally.refused[review.type] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            tally.found.append(f"Review.model_validate({shown(answer)}): {type(error).__name__}: {error}"[:900])

    run()
    return tally
