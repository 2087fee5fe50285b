"""Search the learnings: approved insights that fit the message."""

from __future__ import annotations

from itertools import dropwhile
from typing import Any

from learngate.nodes.prompts import tokens_of
from learngate.nodes.state import RecalledItem, State, noted, turn_messages
from learngate.stores.learnings import Learnings
from learngate.stores.lexical import STOP_WORDS
from learngate.stores.meaning import Hits
from learngate.stores.records import LearningHit
from learngate.stores.text import words

POINTING = frozenset("that this those these it its they them same latter former".split())  # noqa: SIM905
"""Words that stand for something said before."""
WITHIN = frozenset("one ones both other another".split())  # noqa: SIM905
"""Words that mostly point within their sentence ("both funds"), and are none to search for."""
PLEASANTRIES = frozenset(
    "hi hello hey again thanks thank you very much many ok okay yes no great good fine bye cool nice please so"  # noqa: SIM905
    " perfect that it was is helped helpful".split()
)
JOINING = frozenset("then instead too well also still else".split())  # noqa: SIM905
"""Words that go on from something said before."""
OPENING = ("and ", "but ", "or ", "what about ", "how about ")
"""So do these, at the beginning: within a sentence they join what it says itself."""
FEW = 2
"""So many words of its own, or fewer, and one that points, and a message may lean on the one before it."""
SHORT, JOINED = 4, 8
"""A message of so many words may lean on the one before it; of so many, where a word of it goes on from there."""
LONGEST = 2_000
"""Characters of the two that are searched for."""


def search_learnings(state: State, *, learnings: Learnings, k: int, budget: int) -> dict[str, Any]:
    """Find up to `k` learnings that the namespace reads, within a budget of tokens; below the floor: none."""
    room = budget
    found: list[RecalledItem] = []
    hits: Hits[LearningHit] = Hits()
    message = str(turn_messages(state)[0].text)
    query = message
    for query in queries(message, _asked_before(state)):
        hits = learnings.search(query, namespace=state["turn"]["namespace"], k=k)
        if hits:
            break
    for hit in hits:
        item = RecalledItem(
            kind="learning",
            id=hit.learning.id,
            revision=hit.learning.revision,
            score=round(hit.score, 4),
            why=hit.why,
            title=hit.learning.title,
            text=hit.learning.insight,
            shown=True,
        )
        cost = tokens_of(item)
        if cost > room:
            item["title"], item["text"], item["shown"] = "", "", False
        else:
            room -= cost
        found.append(item)
    recalled = noted("learnings", found, hits.note)
    if query != message:
        recalled["query"] = query
    return {"recall": recalled}


def queries(message: str, before: str) -> list[str]:
    """Return what to search for, one after the other until something is found.

    That is the message; and then it with the user's message before it, where it points at that ("compare that to
    Tesla"), is only short, or goes on ("and the fees?"). Where it has no word of its own ("what about those?"),
    it is not searched for alone. A picture without a word is not searched for.
    """
    said = words(message)
    content = [word for word in said if word not in STOP_WORDS | POINTING | WITHIN]
    if not message.strip():
        return []
    if not before.strip() or not said or PLEASANTRIES.issuperset(said):
        return [message]
    both = f"{before}\n{message}"[-LONGEST:]
    points = len(content) <= FEW and not POINTING.isdisjoint(said)
    told = " ".join(dropwhile(PLEASANTRIES.__contains__, said))
    goes_on = not JOINING.isdisjoint(said) or told.startswith(OPENING)
    if not points and len(said) > (JOINED if goes_on else SHORT):
        return [message]
    return [message, both] if content else [both]


def _asked_before(state: State) -> str:
    """Return what the user said in the turn before, on this branch, if it is still in the state."""
    parent = state["turn"]["parent"]
    return next((message.text for message in state["messages"] if parent and message.id == parent), "")
