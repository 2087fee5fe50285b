"""Databases of a size: learnings of real words, written past the gate, which signs and compares each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from learngate.stores import Memory, lexical, tables
from learngate.stores.embedders import WordLlamaEmbeddings
from learngate.stores.records import now

STEP = 10_000


def vocabulary() -> list[str]:
    """Return some ten thousand English words, the commonest first: those that WordLlama's tokenizer knows whole."""
    known = WordLlamaEmbeddings()._model().tokenizer.get_vocab()
    whole = [(number, word[1:]) for word, number in known.items() if word[0] in "▁Ġ" and word[1:].isalpha()]
    return [word for _, word in sorted(whole) if word.isascii() and word.islower() and len(word) > 2]


class Words:
    """Texts whose words are as frequent as in a language: the n-th commonest 1/n as often as the first."""

    def __init__(self, seed: int = 7) -> None:
        self.known = np.asarray(vocabulary())
        weights = 1 / np.arange(1, len(self.known) + 1)
        self._shares = np.cumsum(weights / weights.sum())
        self._chosen = np.random.default_rng(seed)

    def texts(self, count: int, length: int) -> list[list[str]]:
        """Return so many texts of so many words."""
        at = np.searchsorted(self._shares, self._chosen.random((count, length)))
        return [[str(word) for word in row] for row in self.known[np.minimum(at, len(self.known) - 1)]]

    def questions(self, told: list[list[str]], count: int) -> list[str]:
        """Return questions of eight words: six of a learning's, and two others."""
        asked = self._chosen.choice(len(told), count)
        others = self.texts(count, 2)
        return [
            " ".join([*self._chosen.choice(told[one], 6), *other]) for one, other in zip(asked, others, strict=True)
        ]


def learn(memory: Memory, namespace: str, told: list[list[str]]) -> None:
    """Write learnings: of each text the first words are the title, the last are when it applies."""
    shared = {
        "namespace": namespace,
        "status": "active",
        "revision": 1,
        "digest": "",
        "created_at": now(),
        "updated_at": now(),
        "proposal_id": 0,
        "scope": lexical.scope_token("namespace", namespace),
    }
    for rows in _steps(told):
        with memory.database.write() as connection:
            connection.execute(insert(tables.learnings), [shared | row for row in rows])


def _steps(told: list[list[str]]) -> Iterator[list[dict[str, str]]]:
    for start in range(0, len(told), STEP):
        rows = []
        for words in told[start : start + STEP]:
            parts = " ".join(words[:5]), " ".join(words[5:-5]), " ".join(words[-5:])
            title, insight, applies_when = parts
            rows.append(
                {
                    "title": title,
                    "insight": insight,
                    "applies_when": applies_when,
                    "body": lexical.search_body(*parts),
                }
            )
        yield rows


def size(path: Path) -> int:
    """Return a file's size in bytes."""
    return path.stat().st_size
