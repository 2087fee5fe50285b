"""Recall over past sessions, on questions about long conversations: `python -m bench.locomo PATH`.

PATH is a file of LoCoMo's conversations (github.com/snap-research/locomo, CC BY-NC 4.0: get it there) in this
shape: `[{"id", "turns": [{"id", "session", "date", "speaker", "text"}], "questions": [{"question", "category",
"gold": [turn id]}]}]`, dates as "1:56 pm on 8 May, 2023". What is measured is the product's own
`memory.sessions.search`, all conversations in one database, a user each, beside rankings that any reader can
rebuild: BM25 alone, cosines alone, and a fixed stack of both. "without" are the product's figures with one of
its weights taken away, or all. "weights chosen elsewhere" are those where each conversation is searched with
weights that were chosen on the others alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage

from bench.reporting import write
from learngate.stores import ConfigurationError, Turn, evidence, open_memory, sessions
from learngate.stores.embedders import chosen_embedder
from learngate.stores.lexical import STOP_WORDS
from tests.databases import MISSING, new_postgres

K = 10
RESAMPLES = 10_000
WEIGHTS = ("NEIGHBOUR", "SESSION", "SPEAKER", "WHEN")
SHARES = (0.0, 0.15, 0.3, 0.5)
Row = tuple[float, float]


def judged(found: list[str], gold: set[str]) -> Row:
    """Return R@10 and nDCG@10."""
    hits = [one in gold for one in found[:K]]
    ideal = sum(1 / math.log2(i + 2) for i in range(min(K, len(gold))))
    return sum(hits) / len(gold), sum(hit / math.log2(i + 2) for i, hit in enumerate(hits)) / ideal


def asked(conversation: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in conversation["questions"] if one["gold"]]


# -- the product -----------------------------------------------------------------------------------------------


class Product:
    """All conversations in one new database, a user each."""

    def __init__(self, conversations: list[dict[str, Any]], embedder: Embeddings, url: str = "sqlite://") -> None:
        self.memory = open_memory(url, embedder=embedder)
        self.milliseconds: list[float] = []
        self.ids = [turn["id"] for one in conversations for turn in one["turns"]]
        self.weighed: dict[tuple[str, str], tuple[Any, ...]] = {}
        for one in conversations:
            for turn in one["turns"]:
                at = datetime.strptime(turn["date"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
                said = (HumanMessage(turn["text"], name=turn["speaker"]),)
                session = f"{one['id']}-{turn['session']}"
                self.memory.sessions.append(Turn(session, said, id=turn["id"], user_id=one["id"], happened_at=at))
        # A search waits for a few missing vectors, not for all of a conversation.
        for _ in self.memory.embed():
            pass
        for one in conversations:
            self.memory.sessions.search("hello", user_id=one["id"])

    def __call__(self, conversation: dict[str, Any]) -> list[Row]:
        rows = []
        for one in asked(conversation):
            began = time.perf_counter()
            with self._noted((conversation["id"], one["question"])):
                hits = self.memory.sessions.search(one["question"], user_id=conversation["id"], k=K)
            if hits.note:
                raise SystemExit(f"not what is to be measured: {hits.note}")
            self.milliseconds.append((time.perf_counter() - began) * 1000)
            rows.append(judged([hit.turn.id for hit in hits], set(one["gold"])))
        return rows

    @contextmanager
    def _noted(self, question: tuple[str, str]) -> Iterator[None]:
        """Keep what the search weighs, so that other weights need no other search."""
        weigh = sessions.weighed

        def noting(*given: Any) -> dict[int, float]:
            self.weighed[question] = given
            return weigh(*given)

        sessions.weighed = noting  # type: ignore[attr-defined]
        try:
            yield
        finally:
            sessions.weighed = weigh  # type: ignore[attr-defined]

    def weighed_anew(self, conversations: list[dict[str, Any]], weights: dict[str, float]) -> list[Row]:
        """Return what the product would find with other weights."""
        rows = []
        with weighing(weights):
            for conversation in conversations:
                for one in asked(conversation):
                    scores = evidence.weighed(*self.weighed[conversation["id"], one["question"]])
                    best = sorted(scores, key=lambda seq: (-scores[seq], -seq))[:K]
                    rows.append(judged([self.ids[seq - 1] for seq in best], set(one["gold"])))
        return rows


@contextmanager
def weighing(weights: dict[str, float]) -> Iterator[None]:
    """Let searches weigh their evidence by other weights, those that are named."""
    ours = {name: getattr(evidence, name) for name in weights}
    for name, value in weights.items():
        setattr(evidence, name, value)
    try:
        yield
    finally:
        for name, value in ours.items():
            setattr(evidence, name, value)


# -- what it is measured beside --------------------------------------------------------------------------------


def stems(text: str) -> list[str]:
    # Close to a stemmer, and rebuilt in a line: what English adds to the end of a word.
    return [re.sub(r"(?<=\w{3})(?:ing|ed|es|s|ly)$", "", word) for word in re.findall(r"\w+", text.lower())]


class BM25:
    """Lucene's BM25, k1 1.5, b 0.75."""

    def __init__(self, texts: list[str]) -> None:
        counts = [Counter(stems(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts])
        self.norm = 1.5 * (0.25 + 0.75 * lengths / lengths.mean())
        self.held = {word: np.array([count[word] for count in counts]) for word in set().union(*counts)}

    def __call__(self, question: str) -> Any:
        scores = np.zeros(len(self.norm))
        content = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP_WORDS]
        for word in dict.fromkeys(stems(" ".join(content))):
            if word in self.held:
                counts = self.held[word]
                rows = np.count_nonzero(counts)
                weight = math.log(1 + (len(counts) - rows + 0.5) / (rows + 0.5))
                scores += weight * counts * 2.5 / (counts + self.norm)
        return scores


def scaled(scores: Any) -> Any:
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)


def unit(vectors: list[list[float]]) -> Any:
    matrix = np.asarray(vectors, dtype=np.float32)
    return matrix / np.maximum(np.linalg.norm(matrix, axis=-1, keepdims=True), 1e-9)


def baselines(conversation: dict[str, Any], embedder: Embeddings) -> dict[str, list[Row]]:
    """Return what BM25 alone, cosines alone and the fixed stack find, by their names."""
    turns = conversation["turns"]
    ids, of = [turn["id"] for turn in turns], np.array([turn["session"] for turn in turns])
    plain = [f"{turn['speaker']}: {turn['text']}" for turn in turns]
    same = np.append(of[1:] == of[:-1], False)
    windows = [
        "\n".join(plain[j] for j in (i - 1, i, i + 1) if 0 <= j < len(turns) and of[j] == of[i])
        for i in range(len(turns))
    ]
    words = BM25([f"[{turn['date']}] {text}" for turn, text in zip(turns, plain, strict=True)])
    around, vectors = BM25(windows), unit(embedder.embed_documents(plain))
    speakers = np.array([turn["speaker"].lower() for turn in turns])
    rows: dict[str, list[Row]] = {"BM25 alone": [], "dense alone": [], "fixed stack": []}
    for one in asked(conversation):
        dense = vectors @ unit([embedder.embed_query(one["question"])])[0]
        lexical = words(one["question"])
        base = 0.5 * scaled(dense) + 0.25 * scaled(lexical) + 0.25 * scaled(around(one["question"]))
        after, before = np.append(base[1:], 0) * same, np.append(0, (base * same)[:-1])
        fits = {session: np.sort(base[of == session])[-3:].mean() for session in set(of.tolist())}
        session = scaled(np.array([fits[number] for number in of.tolist()]))
        named = np.array([speaker in one["question"].lower() for speaker in speakers])
        stack = base + 0.5 * np.maximum(before, after) + 0.25 * session + 0.1 * named
        for name, scores in zip(rows, (lexical, dense, stack), strict=True):
            best = np.argsort(-scores, kind="stable")[:K]
            rows[name].append(judged([ids[i] for i in best], set(one["gold"])))
    return rows


# -- figures ---------------------------------------------------------------------------------------------------


def joined(rows: Iterable[list[Row]]) -> list[Row]:
    return list(itertools.chain.from_iterable(rows))


def mean(rows: list[Row]) -> list[float]:
    return [round(100 * float(value), 1) for value in np.mean(rows, axis=0)]


def difference(ours: list[Row], theirs: list[Row]) -> dict[str, list[float]]:
    """Return by how much ours is better, with its 95 % interval: questions drawn again, the same for both sides."""
    gains = 100 * (np.array(ours) - np.array(theirs))
    drawn = np.random.default_rng(0).integers(0, len(gains), (RESAMPLES, len(gains)))
    means = np.stack([gains[one].mean(axis=0) for one in drawn])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    named = zip(("R@10", "nDCG@10"), gains.mean(axis=0), low, high, strict=True)
    return {name: [round(float(value), 1) for value in values] for name, *values in named}


def chosen_elsewhere(product: Product, conversations: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose the weights on all conversations but one, beginning with none, and judge them on that one."""
    ours = {name: getattr(evidence, name) for name in WEIGHTS}
    rows, picked = [], {}
    for out in conversations:
        others = [one for one in conversations if one is not out]
        best: dict[str, float] = dict.fromkeys(WEIGHTS, 0.0)
        for name in WEIGHTS * 2:
            fits = {share: product.weighed_anew(others, best | {name: share}) for share in SHARES}
            best[name] = max(fits, key=lambda share: float(np.mean(fits[share])))
        rows += product.weighed_anew([out], best)
        picked[out["id"]] = best
    return {"figures": mean(rows), "weights": picked, "learngate's own": ours}


def measured(name: str, conversations: list[dict[str, Any]]) -> dict[str, Any]:
    embedder = chosen_embedder(name)
    product = Product(conversations, embedder)
    ours = [product(one) for one in conversations]
    milliseconds = round(float(np.median(product.milliseconds)), 1)
    every = [baselines(one, embedder) for one in conversations]
    together = joined(ours)
    kinds = [one["category"] for conversation in conversations for one in asked(conversation)]
    figures: dict[str, Any] = {
        "questions": len(together),
        "learngate": mean(together),
        "milliseconds a search": milliseconds,
        "by conversation": {one["id"]: mean(rows) for one, rows in zip(conversations, ours, strict=True)},
        "by category": {
            kind: mean([row for row, of in zip(together, kinds, strict=True) if of == kind])
            for kind in sorted(set(kinds))
        },
    }
    for baseline in every[0]:
        theirs = joined(rows[baseline] for rows in every)
        figures[baseline] = {"figures": mean(theirs), "learngate is better by": difference(together, theirs)}
    figures["without"] = {name: mean(product.weighed_anew(conversations, {name: 0.0})) for name in WEIGHTS}
    figures["without"]["any"] = mean(product.weighed_anew(conversations, dict.fromkeys(WEIGHTS, 0.0)))
    figures["weights chosen elsewhere"] = chosen_elsewhere(product, conversations)
    product.memory.close()
    figures["on PostgreSQL"] = on_postgres(conversations, embedder)
    return figures


def on_postgres(conversations: list[dict[str, Any]], embedder: Embeddings) -> dict[str, Any] | None:
    """Return the product's figures on PostgreSQL, where the tests have a server."""
    if MISSING:
        return None
    with new_postgres() as url:
        product = Product(conversations, embedder, url)
        figures = mean(joined(product(one) for one in conversations))
        product.memory.close()
    return {"learngate": figures, "milliseconds a search": round(float(np.median(product.milliseconds)), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="PATH")
    given = parser.parse_args()
    conversations = json.loads(given.path.read_text())
    figures: dict[str, Any] = {"figures are": ["R@10", "nDCG@10"]}
    for name in ("wordllama", "minilm"):
        try:
            figures[name] = measured(name, conversations)
        except ConfigurationError as missing:
            figures[name] = str(missing)
        print(name, json.dumps(figures[name], indent=1, ensure_ascii=False), flush=True)
    print(write("locomo", figures))


if __name__ == "__main__":
    main()
