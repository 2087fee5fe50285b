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
    all any avoid but cannot don except fewer hardly if instead least less more most neither never no none nor not
    off on only out over rarely seldom stop t than too under unless up without
    """.split()  # noqa: SIM905 - as lexical.STOP_WORDS
)
"""Words that turn or narrow what the next one says; `t` is what "isn't" ends with."""
_EMPTY = (lexical.STOP_WORDS | _ADVISING) - _LIMITING - {"before", "after", "from", "into", "then", "to"}


class Told:
    """A text's words, read once for all that it is compared with."""

    def __init__(self, text: str) -> None:
        self.spoken = meant(text)
        # The stems, in their order, of the words that do not only introduce or join.
        self.said: list[str] = []
        limiting = ""
        for word in self.spoken:
            if word in _LIMITING:
                # With what it limits it is one: "avoid bonds, buy stocks" does not say to avoid stocks.
                limiting += f"{word} "
            elif word not in _EMPTY:
                self.said.append(limiting + lexical.stem(word))
                limiting = ""
        self.said += limiting.split()


def says_no_more(text: Told, than: Told) -> bool:
    """Return whether a text holds nothing that another one does not say, too, in the same order."""
    if len(text.said) < ALIKE * len(than.said):
        return False
    if _LIMITING.intersection(text.spoken) != _LIMITING.intersection(than.spoken):
        return False
    # "The mean, not the median" has the words of "the median, not the mean": each is looked for after the last.
    theirs = iter(than.said)
    return all(word in theirs for word in text.said)
