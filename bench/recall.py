"""Recall quality of learnings: is the right one found, and is the search silent where there is none?

    python -m bench.recall [--embedder wordllama] [--embedder minilm]

The questions are our own (`data/recall.json`), in two halves by a hash of their key: floors and weights are
chosen on one (`chosen`) and judged on the other (`judged`). Every figure comes with a bootstrap interval of 95 %.
The learnings' triggers are worded as a reflection words them, and once more in a few words (`terse`).
Writes `results/recall.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import reporting
from learngate.stores import lexical, open_memory
from learngate.stores.embedders import FEW, chosen_embedder, floor_of
from learngate.stores.errors import ConfigurationError
from learngate.stores.hybrid import shares_named, words_held
from learngate.stores.memory import Memory
from learngate.stores.records import ProposalDraft
from learngate.stores.tables import learnings

DATA = Path(__file__).parent / "data" / "recall.json"
NAMESPACE = "bench"
K = 5
SILENT, KEPT = 0.95, {"wordllama": 0.88, "minilm": 0.93}
"""What is aimed for: the share of foreign questions that find nothing, and of ordinary ones that find their own."""
HALVES = ("chosen", "judged")
KINDS = {"ordinary": "question", "reworded": "reworded", "paraphrase": "paraphrase"}
"""Questions to which a learning is the answer, and where they stand in the data."""
FOREIGN = {"far": "far", "other tasks": "other_tasks"}
"""Questions to which none is."""


def half(key: str) -> str:
    """Return which half a question is in; a learning's questions are in the same."""
    return HALVES[hashlib.blake2b(key.encode(), digest_size=1).digest()[0] % 2]


def main() -> None:
    """Measure each embedder that is there and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedder", action="append", choices=sorted(KEPT))
    data = json.loads(DATA.read_text())
    figures: dict[str, Any] = {
        "learnings": len(data["learnings"]),
        "questions": dict.fromkeys((*KINDS, "near"), len(data["learnings"]))
        | {kind: len(data[field]) for kind, field in FOREIGN.items()},
    }
    for name in parser.parse_args().embedder or sorted(KEPT, reverse=True):
        try:
            figures[name] = measured(name, data)
        except ConfigurationError as error:
            print(f"{name}: {error}")
            continue
        terse = figures[name]["terse"]
        for what, value in figures[name].items():
            if what != "terse":
                beside = ["terse:", json.dumps(terse[what])] if what in terse else []
                print(name, what, json.dumps(value), *beside)
    print(reporting.write("recall", figures))


def measured(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one embedder, through the search that an agent uses."""
    floor = floor_of(chosen_embedder(name))
    figures: dict[str, Any] = {"floor": floor.many, "floor among few": round(floor.among(FEW), 3)}
    with open_memory("sqlite://", embedder=name) as memory:
        by_id = _taught(memory, data)
        figures |= _recall(memory, name, by_id) | _floors(memory, by_id, data) | _few(memory, data)
        figures["floor by the rule"] = _rule(name, by_id, data)
        figures["copies shown once"] = _copies(memory, data)
    with open_memory("sqlite://", embedder=name) as memory:
        terse = data | {"learnings": [one | {"applies_when": one["terse"]} for one in data["learnings"]]}
        figures["terse"] = _floors(memory, _taught(memory, terse), terse) | _few(memory, terse)
    return figures


def _taught(memory: Memory, data: dict[str, Any]) -> dict[int, dict[str, str]]:
    by_id = {
        memory.learnings.add(_draft(one), namespace=NAMESPACE, actor="bench").id: one for one in data["learnings"]
    }
    # A search that had to make the vectors might give up and go by words.
    list(memory.embed())
    return by_id


def _draft(one: dict[str, str]) -> ProposalDraft:
    return ProposalDraft(one["title"], one["insight"], one["applies_when"])


def _copies(memory: Memory, data: dict[str, Any]) -> dict[str, Any]:
    """Return the share of learnings of which a search shows either the learning or its copy, and not both."""
    by_key, once = {one["key"]: one for one in data["learnings"]}, []
    for copy in data["copies"]:
        namespace = f"copy-{copy['of']}"
        for one in (by_key[copy["of"]], copy):
            memory.learnings.add(_draft(one), namespace=namespace, actor="bench")
        once.append((half(copy["of"]), len(memory.learnings.search(copy["insight"], namespace=namespace)) == 1))
    return _by_half(once)


# -- recall@5 of each leg -----------------------------------------------------------------------------------


def _recall(memory: Memory, name: str, by_id: dict[int, dict[str, str]]) -> dict[str, Any]:
    legs: dict[str, Callable[[str], Sequence[int]]] = {
        "dense": _dense(name, by_id),
        "lexical": lambda query: _lexical(memory, query),
        "hybrid": lambda query: [
            hit.learning.id for hit in memory.learnings.search(query, namespace=NAMESPACE, k=K, floor=False)
        ],
    }
    return {
        f"recall@5 {kind} {leg}": _by_half(
            [(half(one["key"]), learning_id in list(find(one[field]))[:K]) for learning_id, one in by_id.items()]
        )
        for kind, field in KINDS.items()
        for leg, find in legs.items()
    }


def _dense(name: str, by_id: dict[int, dict[str, str]]) -> Callable[[str], Sequence[int]]:
    ids, vectors, embedder = list(by_id), _vectors(name, by_id), chosen_embedder(name)

    def find(query: str) -> Sequence[int]:
        cosines = vectors @ np.asarray(embedder.embed_query(query), dtype=np.float32)
        return [ids[place] for place in np.argsort(-cosines)[:K]]

    return find


def _vectors(name: str, by_id: dict[int, dict[str, str]]) -> Any:
    texts = ["\n".join((one["title"], one["insight"], one["applies_when"])) for one in by_id.values()]
    return _unit(chosen_embedder(name).embed_documents(texts))


def _lexical(memory: Memory, query: str) -> Sequence[int]:
    scopes = [lexical.scope_token("namespace", NAMESPACE)]
    with memory.database.read() as connection:
        return [row for row, *_ in lexical.search(connection, learnings, scopes=scopes, query=query, limit=K)]


# -- silent and kept ----------------------------------------------------------------------------------------


def _floors(memory: Memory, by_id: dict[int, dict[str, str]], data: dict[str, Any]) -> dict[str, Any]:
    answers: dict[str, list[tuple[str, bool]]] = {}
    for learning_id, one in by_id.items():
        where = half(one["key"])
        for kind, field in KINDS.items():
            hits = [
                hit.learning.id for hit in memory.learnings.search(one[field], namespace=NAMESPACE, k=len(by_id))
            ]
            answers.setdefault(f"kept {kind}", []).append((where, learning_id in hits[:K]))
            if kind == "ordinary":
                # The floor is absolute, so what is found without the right one is what is found beside it.
                answers.setdefault("silent near", []).append((where, not set(hits) - {learning_id}))
                same = all(by_id[i]["domain"] == one["domain"] for i in hits)
                answers.setdefault("silent for another domain", []).append((where, same))
    for kind, field in FOREIGN.items():
        answers[f"silent {kind}"] = [
            (half(query), not memory.learnings.search(query, namespace=NAMESPACE)) for query in data[field]
        ]
    return {what: _by_half(all_of) for what, all_of in answers.items()}


def _few(memory: Memory, data: dict[str, Any]) -> dict[str, Any]:
    """Return the same with a namespace for each domain: 13 learnings instead of 104."""
    domains = sorted({one["domain"] for one in data["learnings"]})
    own = {
        one["key"]: memory.learnings.add(_draft(one), namespace=f"few-{one['domain']}", actor="bench").id
        for one in data["learnings"]
    }

    def asked(query: str, domain: str) -> list[int]:
        return [hit.learning.id for hit in memory.learnings.search(query, namespace=f"few-{domain}", k=K)]

    answers: dict[str, list[tuple[str, bool]]] = {}
    for one in data["learnings"]:
        where = half(one["key"])
        for kind, field in KINDS.items():
            hits = asked(one[field], one["domain"])
            answers.setdefault(f"kept {kind}, among 13", []).append((where, own[one["key"]] in hits))
            if kind == "ordinary":
                answers.setdefault("silent near, among 13", []).append((where, not set(hits) - {own[one["key"]]}))
                answers.setdefault("silent for another domain, among 13", []).extend(
                    (where, not asked(one[field], domain)) for domain in domains if domain != one["domain"]
                )
    for kind, field in FOREIGN.items():
        answers[f"silent {kind}, among 13"] = [
            (half(query), not asked(query, domain)) for query in data[field] for domain in domains
        ]
    return {what: _by_half(all_of) for what, all_of in answers.items()}


def _rule(name: str, by_id: dict[int, dict[str, str]], data: dict[str, Any]) -> dict[str, float]:
    """Return the floor that the chosen half gives: the lowest at which foreign questions are silent enough."""
    strangers = [query for field in FOREIGN.values() for query in data[field] if half(query) == "chosen"]
    mine = [place for place, one in enumerate(by_id.values()) if half(one["key"]) == "chosen"]
    asked = reached(name, by_id, [one["question"] for one in by_id.values()])
    own = np.sort(asked[mine, mine])
    foreign = reached(name, by_id, strangers)
    rng = np.random.default_rng(4)
    few = np.concatenate([foreign[:, rng.permutation(len(by_id))[:FEW]].max(axis=1) for _ in range(100)])
    silent = float(np.quantile(foreign.max(axis=1), SILENT, method="higher"))
    return {
        "silent from": round(silent, 3),
        f"silent from, among {FEW}": round(float(np.quantile(few, SILENT, method="higher")), 3),
        "keeps up to": round(float(own[int(np.floor((1 - KEPT[name]) * len(own)))]), 3),
        "floor": math.ceil(silent * 100) / 100,
    }


def reached(name: str, by_id: dict[int, dict[str, str]], queries: Sequence[str]) -> Any:
    """Return, for each question and learning, the highest floor at which the one finds the other."""
    rows = _vectors(name, by_id)
    bodies = {
        place: lexical.search_body(one["title"], one["insight"], one["applies_when"])
        for place, one in enumerate(by_id.values())
    }
    reach = _unit(chosen_embedder(name).embed_documents([*queries])) @ rows.T
    for number, query in enumerate(queries):
        asked = lexical.content_stems(query)
        for place, share in shares_named(asked, words_held(asked, bodies)).items():
            reach[number, place] = 1.0 if share == 1 else reach[number, place] / (1 - share)
    return reach


def _unit(raw: Sequence[Sequence[float]]) -> Any:
    vectors = np.asarray(raw, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# -- figures ------------------------------------------------------------------------------------------------


def _by_half(answers: Sequence[tuple[str, bool]]) -> dict[str, list[float]]:
    """Return, for each half, the share that is right with the ends of its interval."""
    return {name: _share([right for where, right in answers if where == name]) for name in HALVES}


def _share(answers: Sequence[bool]) -> list[float]:
    rng = np.random.default_rng(4)
    drawn = rng.choice(np.asarray(answers, dtype=float), size=(2000, len(answers))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [round(float(value), 3) for value in (np.mean(answers), low, high)]


if __name__ == "__main__":
    main()
