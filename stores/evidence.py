"""What speaks for a past turn besides its own words: its neighbours, its session, who spoke, and when.

The weights are round numbers, the same for each embedder. With each conversation left out in turn, weights chosen
on the others do as well, so that these four owe little to the questions that they are shown on; what else a search
of past sessions goes by was compared on those very questions (docs/decisions/021-past-sessions.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from learngate.stores.dates import Span

NEIGHBOUR = 0.5
"""The share of the better neighbour's score that a turn gets: an answer stands beside its question."""
SESSION = 0.25
"""What the best session's turns get; a session is as good as its best three."""
SPEAKER = 0.3
"""What a turn gets whose speaker the question names."""
WHEN = 0.3
"""What a turn gets of a time that the question names."""

_WORD = re.compile(r"[^\W_]+")
_SPEAKER = re.compile(r"^([^:\s][^:\n]{0,59}): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A past turn that may answer a question, and how well its own words fit (0…1)."""

    seq: int
    parent_seq: int | None
    session_id: str
    happened_at: datetime
    body: str
    score: float


def weighed(candidates: Sequence[Candidate], query: str, spans: Sequence[Span]) -> dict[int, float]:
    """Return {turn: score}, with all that speaks for each."""
    own = {one.seq: one.score for one in candidates}
    beside = dict.fromkeys(own, 0.0)
    for one in candidates:
        if one.parent_seq in own:
            beside[one.seq] = max(beside[one.seq], own[one.parent_seq])
            beside[one.parent_seq] = max(beside[one.parent_seq], one.score)
    sessions = _sessions(candidates)
    speakers = {one.seq: _speakers(one.body) for one in candidates}
    named = _named(set().union(*speakers.values()), query)
    return {
        one.seq: one.score
        + NEIGHBOUR * beside[one.seq]
        + SESSION * sessions[one.session_id]
        + SPEAKER * (named in speakers[one.seq])
        + WHEN * any(start <= one.happened_at < end for start, end in spans)
        for one in candidates
    }


def _sessions(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return how well each session fits, scaled to 0…1."""
    scores: dict[str, list[float]] = {}
    for one in candidates:
        scores.setdefault(one.session_id, []).append(one.score)
    fits = {session: sum(sorted(of)[-3:]) / 3 for session, of in scores.items()}
    best = max(fits.values(), default=0.0)
    return {session: fit / best if best > 0 else 0.0 for session, fit in fits.items()}


def _named(everybody: Set[str], query: str) -> str | None:
    """Return the one speaker whom the question names, if it is one."""
    asked = _in_words(query)
    named = {one for one in everybody if _in_words(one) in asked}
    return named.pop() if len(named) == 1 else None


def _in_words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _speakers(body: str) -> set[str]:
    return {name.casefold() for name in _SPEAKER.findall(body)}
