"""What calls are made of: values that are sound for a parameter, and values that are anything at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from learngate.stores import Decision, Excerpt, MemoryOperation, ProposalDraft, Turn
from learngate.stores.records import Recalled

ITSELF: list[Any] = []
ITSELF.append(ITSELF)


def deep(levels: int) -> Any:
    """Return a list in a list in a list."""
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


LETTERS = st.characters()  # surrogates and NUL among them
TEXTS = st.one_of(
    st.text(LETTERS, max_size=12),
    st.sampled_from(
        [
            "", " ", "\x00", "a\x00b", "\ud800", "\udfff x", "\u2028", "x" * 201, "x" * 5_000, "x" * 70_000,
            "é" * 150, "' OR 1=1 --", '"*" NEAR(', "%s", "{}", "a/b", "a//b", "/", "\u200b", "喜欢基金",
        ]
    ),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from([2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**40]),
    st.integers(),
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.floats(),
    TEXTS,
    st.binary(max_size=8),
    st.datetimes(),
    st.builds(deep, st.sampled_from([50, 3_000])),
    st.sampled_from(
        [
            object(), int, ValueError("x"), Decimal("NaN"), 1j, np.int64(3), np.float32("nan"), np.zeros(3),
            range(3), datetime.max, datetime.min.replace(tzinfo=UTC), Decision.approve(),
            MemoryOperation("add", "x"), HumanMessage("x"), ITSELF, frozenset({1}), {"a": {1}}, (), [], {},
        ]
    ),
)  # fmt: skip
ANYTHING = st.one_of(
    ODD,
    ODD,
    st.recursive(
        ODD,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)
        ),
        max_leaves=5,
    ),
)


@st.composite
def some_odd(draw: Any, sound: Mapping[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """Draw a value for each name: sound ones, with any at all in the place of none of them, of a few or of most."""
    odd = draw(st.sampled_from(["none", "none", "none", "some", "some", "most"]))
    names = [*sound]
    chosen = (
        set(draw(st.lists(st.sampled_from(names), min_size=1, max_size=2))) if odd == "some" and names else set()
    )
    return {
        name: draw(ANYTHING if name in chosen or (odd == "most" and draw(st.booleans())) else of)
        for name, of in sound.items()
    }


def record(made: Callable[..., Any], /, **sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give records, of which some hold what they should not."""
    return some_odd(sound).map(lambda values: made(**values))


one_of = st.sampled_from
MAYBE_USER, SPACE = one_of(["ana", "ana", "ben", None]), one_of(["acme", "acme/finance", "default"])
SESSION, TURN_ID, ID = one_of(["s", "s", "other", "new"]), one_of(["q1", "q2", "q3", "new"]), one_of([1, 2, 3, 999])
COUNT, NOTE = one_of([0, 1, 3, 100]), one_of([None, "", "a note"])
WORDS = one_of(["likes tea", "likes rain", "mind costs", "check fees", "a new rule"]) | TEXTS.filter(str.strip)
MAYBE_WORDS = st.none() | WORDS
SOURCE = st.tuples(SESSION, TURN_ID)

MESSAGES = st.one_of(
    st.builds(
        HumanMessage,
        TEXTS,
        id=st.none() | TEXTS,
        name=st.none() | TEXTS,
        additional_kwargs=st.fixed_dictionaries({"x": ANYTHING}),
    ),
    st.builds(AIMessage, TEXTS, id=st.none() | TEXTS, response_metadata=st.fixed_dictionaries({"x": ANYTHING})),
    st.builds(AIMessage, st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2)),
    st.builds(ToolMessage, TEXTS, tool_call_id=TEXTS, artifact=ANYTHING),
    st.builds(SystemMessage, TEXTS),
)
SAID = st.tuples(st.builds(HumanMessage, TEXTS), MESSAGES)
RECALLED = record(
    Recalled,
    kind=one_of(["memory", "learning"]),
    id=ID,
    revision=ID,
    score=st.floats(0, 1),
    shown=st.booleans(),
)
TURN = record(
    Turn,
    session_id=SESSION,
    messages=SAID,
    id=TURN_ID | st.uuids().map(str),
    user_id=MAYBE_USER,
    namespace=SPACE,
    parent=one_of([None, "", "q1"]),
    status=one_of(["complete", "complete", "failed", "running"]),
    reflection=one_of(["off", "pending"]),
    happened_at=st.datetimes(timezones=st.sampled_from([UTC, None])),
    checkpoint_id=st.none() | TEXTS,
    usage=st.none() | st.dictionaries(TEXTS, ANYTHING, max_size=3),
    noted=st.none() | st.dictionaries(TEXTS, ANYTHING, max_size=3),
    recalled=st.lists(RECALLED, max_size=2).map(tuple),
    error=MAYBE_WORDS,
)
EXCERPTS = record(Excerpt, text=TEXTS, speaker=MAYBE_USER, user_id=MAYBE_USER, session_id=SESSION, turn_id=TURN_ID)
DRAFTS = record(
    ProposalDraft,
    title=WORDS,
    insight=WORDS,
    applies_when=one_of(["", "always"]),
    rationale=one_of(["", "because"]),
    excerpts=st.lists(EXCERPTS, max_size=2).map(tuple),
)
DECISIONS = record(
    Decision,
    type=one_of(["approve", "edit", "reject"]),
    title=MAYBE_WORDS,
    insight=MAYBE_WORDS,
    applies_when=one_of([None, "", "always"]),
    note=NOTE,
)
SEEN = st.none() | st.tuples(WORDS, WORDS, MAYBE_WORDS)
OPERATIONS = st.lists(
    record(MemoryOperation, op=one_of(["add", "update", "forget"]), text=MAYBE_WORDS, id=st.none() | ID), max_size=3
)

SOUND: dict[str, st.SearchStrategy[Any]] = {
    "session_id": SESSION, "user_id": one_of(["ana", "ben"]), "turn": TURN, "turn_id": TURN_ID,
    "recalled": st.booleans(), "beside": st.booleans(), "message_id": TURN_ID,
    "ids": st.lists(TURN_ID, max_size=3), "turns": COUNT, "keep": COUNT,
    "head": one_of([None, "", "q1", "q3", "new"]), "k": COUNT, "limit": COUNT, "budget": COUNT,
    "query": TEXTS | one_of(["tea", "mind the costs", "question"]), "reflected": st.booleans(),
    "error": MAYBE_WORDS, "text": WORDS, "namespace": SPACE, "pinned": st.booleans(), "source": SOURCE,
    "memory_id": ID, "operations": OPERATIONS, "effect": one_of(["propose", "remember", "tools"]),
    "final": st.booleans(), "settles": st.booleans(), "draft": DRAFTS, "proposer": one_of(["host", "model-x"]),
    "proposal_id": ID, "decision": DECISIONS, "reviewer": one_of(["rev", "ana"]), "learning_id": ID,
    "title": WORDS, "insight": WORDS, "applies_when": MAYBE_WORDS, "actor": one_of(["ana", "rev"]),
    "note": NOTE, "revision": ID, "floor": st.booleans(), "seen": SEEN,
    "status": one_of(["active", "retired", "done", "failed", "pending", None]),
}  # fmt: skip
"""For each parameter of a store's methods, by its name, what it takes; a parameter that is not here is new."""
