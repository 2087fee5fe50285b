"""What a reflection may bring, and what makes a good learning, enforced."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from learngate.stores.text import LEARNING_LIMIT, TITLE_LIMIT, clean, words

APPLIES_WHEN = (
    "when it helps: three or four short situations or questions, separated by semicolons, each worded differently,"
    " at least two of them as a lay person would put it who does not know the terms or the answer;"
    " 240 characters at most"
)
"""By these a search finds a learning whose advice is worded otherwise than the question."""


class MemoryChange(BaseModel):
    """One change to what is known about the user."""

    model_config = ConfigDict(extra="ignore")

    op: Literal["add", "update", "forget"] = Field(description="add, update or forget")
    text: str | None = Field(default=None, description="the fact as a short sentence; not for forget")
    id: int | None = Field(default=None, description="the known memory's id; for update and forget only")


class Candidate(BaseModel):
    """One insight that would help anybody who asks something like this."""

    model_config = ConfigDict(extra="ignore")

    title: str = Field(description="a short headline")
    insight: str = Field(description="the insight itself, in one or two sentences that stand alone")
    applies_when: str = Field(default="", description=APPLIES_WHEN)
    rationale: str = Field(default="", description="what in this turn supports it")


class Reflection(BaseModel):
    """What one finished turn is worth keeping for; usually nothing."""

    model_config = ConfigDict(extra="ignore")

    memories: list[MemoryChange] = Field(default_factory=list, description="changes to the user's memories")
    learning: Candidate | None = Field(default=None, description="at most one learning; usually null")


_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("it is a question, not an insight", re.compile(r"\?\s*$")),
    ("it is about a person, not about the matter", re.compile(r"\b(i|i'm|i've|my|mine|me|we|our)\b", re.I)),
    (
        "it sums up a conversation",
        re.compile(
            r"^(the user|user asked|in this conversation|we discussed|summary|to sum up|the assistant)\b",
            re.I,
        ),
    ),
    (
        "it is speculation",
        re.compile(r"\b(maybe|perhaps|possibly|probably|might|i guess|i think|it seems|presumably)\b", re.I),
    ),
    (
        "it is a one-off fact",
        re.compile(r"\b(today|yesterday|tomorrow|this morning|right now|currently|at the moment)\b", re.I),
    ),
)


def cleaned(given: dict[str, Any]) -> Candidate:
    """Return a candidate whose texts can be stored: a model may write NUL, or half of a character."""
    return Candidate(**{name: clean(str(text)).strip() for name, text in given.items()})


def weakness(candidate: Candidate) -> str | None:
    """Return why a candidate is not a good learning; `None` for one that may be proposed.

    A learning is specific, actionable and generalizable; never raw data, a one-off fact, a summary or
    speculation. A model is told so in the prompt, and held to it here.
    """
    if not candidate.title.strip() or not candidate.insight.strip():
        return "it has no title or no insight"
    if len(candidate.title.encode(errors="replace")) > TITLE_LIMIT:
        return "its title is too long"
    texts = (candidate.insight, candidate.applies_when, candidate.rationale)
    if any(len(text.encode(errors="replace")) > LEARNING_LIMIT for text in texts):
        return "it is too long"
    said = words(candidate.insight)
    if len(said) < 5:
        return "it is not specific: fewer than five words"
    if sum(word[0].isdigit() for word in said) * 2 > len(said):
        return "it is raw data"
    return next((reason for reason, rule in _RULES if rule.search(candidate.insight)), None)
