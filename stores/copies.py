"""Near-copies: advice that says nothing beyond what stands above it is not shown a second time.

Words tell them, and no vectors: texts that differ in one name, one "only" or one "fewer" have a cosine of 0.94,
more than most rewordings have, and what is hidden wrongly costs more than what is said twice.
"""

from __future__ import annotations

from learngate.stores import lexical
from learngate.stores.text import meant

ALIKE = 2 / 3
"""What has less than this share of the other's words is no copy but other, shorter advice."""
# "Always check the fees, please" says "look at the fees".
_ADVISING = frozenset(["always", "also", "both", "check", "consider", "ensure", "look", "make", "must", "please"])
_LIMITING = frozenset(
    """
    all any avoid but cannot don except if more most never no nor not off on only out over too under unless up
    without
    """.split()  # noqa: SIM905 - as lexical.STOP_WORDS
)
_EMPTY = (lexical.STOP_WORDS | _ADVISING) - _LIMITING
_ORDERING = frozenset(
    [
        "after",
        "before",
        "above",
        "below",
        "from",
        "into",
        "over",
        "rather",
        "instead",
        "than",
        "then",
        "to",
        "under",
    ]
)


class Told:
    """A text's words, read once for all that it is compared with."""

    def __init__(self, text: str) -> None:
        self.spoken = meant(text)
        # The stems, in their order, of the words that do not only introduce or join.
        self.said = [lexical.stem(word) for word in self.spoken if word not in _EMPTY]


def says_no_more(text: Told, than: Told) -> bool:
    """Return whether a text holds nothing that another one does not say, too."""
    spoken, others, mine, theirs = text.spoken, than.spoken, text.said, than.said
    if not set(mine) <= set(theirs) or len(set(mine)) < ALIKE * len(set(theirs)):
        return False
    if _LIMITING.intersection(spoken) != _LIMITING.intersection(others):
        return False
    # "Growth before value" has the words of "value before growth", and 0.5 the digits of 5.0.
    ordered = any(word in _ORDERING or word.isdigit() for word in spoken + others)
    return not ordered or mine == [word for word in theirs if word in mine]
