"""Recall quality of learnings: is the right one found, and is the search silent where there is none?

    python -m bench.recall [--embedder wordllama] [--embedder minilm]

The questions are our own (`data/recall.json`), in two halves by a hash of their key: floors and weights are
chosen on one (`chosen`) and judged on the other (`judged`). Every figure comes with a bootstrap interval of 95 %.
Writes `results/recall.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import reporting
from learngate.stores import lexical, open_memory
from learngate.stores.embedders import FEW, chosen_embedder, floor_of
from learngate.stores.errors import ConfigurationError
from learngate.stores.memory import Memory
from learngate.stores.records import ProposalDraft
from learngate.stores.tables import learnings

DATA = Path(__file__).parent / "data" / "recall.json"
NAMESPACE = "bench"
K = 5
SILENT, KEPT = 0.95, {"wordllama": 0.88, "minilm": 0.93}
"""What is aimed for: the share of far questions that find nothing, and of ordinary ones that find their own."""
HALVES = ("chosen", "judged")


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
        "questions": {"ordinary": len(data["learnings"]), "paraphrase": len(data["learnings"])}
        | {"far": len(data["far"]), "near": len(data["learnings"])},
    }
    for name in parser.parse_args().embedder or sorted(KEPT, reverse=True):
        try:
            figures[name] = measured(name, data)
        except ConfigurationError as error:
            print(f"{name}: {error}")
            continue
        for what, value in figures[name].items():
            print(name, what, json.dumps(value))
    print(reporting.write("recall", figures))


def measured(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one embedder, through the search that an agent uses."""
    with open_memory("sqlite://", embedder=name) as memory:
        by_id = {}
        for one in data["learnings"]:
            draft = ProposalDraft(one["title"], one["insight"], one["applies_when"])
            by_id[memory.learnings.add(draft, namespace=NAMESPACE, actor="bench").id] = one
        # A search that had to make the vectors might give up and go by words.
        list(memory.embed())
        floor = floor_of(chosen_embedder(name))
        figures: dict[str, Any] = {"floor": floor.many, "floor among few": round(floor.among(FEW), 3)}
        figures |= _recall(memory, name, by_id) | _floors(memory, by_id, data["far"]) | _few(memory, data)
        figures["floor by the rule"] = _rule(name, by_id, data["far"])
        figures["copies shown once"] = _copies(memory, data)
    return figures


def _copies(memory: Memory, data: dict[str, Any]) -> dict[str, Any]:
    """Return the share of learnings of which a search shows either the learning or its copy, and not both."""
    by_key, once = {one["key"]: one for one in data["learnings"]}, []
    for copy in data["copies"]:
        namespace = f"copy-{copy['of']}"
        for one in (by_key[copy["of"]], copy):
            draft = ProposalDraft(one["title"], one["insight"], one["applies_when"])
            memory.learnings.add(draft, namespace=namespace, actor="bench")
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
        for kind, field in (("ordinary", "question"), ("paraphrase", "paraphrase"))
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


def _floors(memory: Memory, by_id: dict[int, dict[str, str]], far: Sequence[str]) -> dict[str, Any]:
    kept: dict[str, list[tuple[str, bool]]] = {"ordinary": [], "paraphrase": []}
    silent: dict[str, list[tuple[str, bool]]] = {"far": [], "far, by domain": [], "near": []}
    for learning_id, one in by_id.items():
        where = half(one["key"])
        hits = [
            hit.learning.id for hit in memory.learnings.search(one["question"], namespace=NAMESPACE, k=len(by_id))
        ]
        kept["ordinary"].append((where, learning_id in hits[:K]))
        # The floor is absolute, so what is found without the right one is what is found beside it.
        silent["near"].append((where, not set(hits) - {learning_id}))
        silent["far, by domain"].append((where, all(by_id[i]["domain"] == one["domain"] for i in hits)))
        found = memory.learnings.search(one["paraphrase"], namespace=NAMESPACE, k=K)
        kept["paraphrase"].append((where, learning_id in {hit.learning.id for hit in found}))
    silent["far"] = [(half(query), not memory.learnings.search(query, namespace=NAMESPACE)) for query in far]
    return {f"kept {kind}": _by_half(all_of) for kind, all_of in kept.items()} | {
        f"silent {kind}": _by_half(all_of) for kind, all_of in silent.items()
    }


def _few(memory: Memory, data: dict[str, Any]) -> dict[str, Any]:
    """Return the same with a namespace for each domain: 13 learnings instead of 104."""
    domains = sorted({one["domain"] for one in data["learnings"]})
    own = {}
    for one in data["learnings"]:
        draft = ProposalDraft(one["title"], one["insight"], one["applies_when"])
        own[one["key"]] = memory.learnings.add(draft, namespace=f"few-{one['domain']}", actor="bench").id

    def asked(query: str, domain: str) -> list[int]:
        return [hit.learning.id for hit in memory.learnings.search(query, namespace=f"few-{domain}", k=K)]

    answers: dict[str, list[tuple[str, bool]]] = {}
    for one in data["learnings"]:
        where = half(one["key"])
        for kind, field in (("ordinary", "question"), ("paraphrase", "paraphrase")):
            hits = asked(one[field], one["domain"])
            answers.setdefault(f"kept {kind}, among 13", []).append((where, own[one["key"]] in hits))
            if kind == "ordinary":
                answers.setdefault("silent near, among 13", []).append((where, not set(hits) - {own[one["key"]]}))
            answers.setdefault(f"silent {kind} of other domains, among 13", []).extend(
                (where, not asked(one[field], domain)) for domain in domains if domain != one["domain"]
            )
    answers["silent far, among 13"] = [
        (half(query), not asked(query, domain)) for query in data["far"] for domain in domains
    ]
    return {what: _by_half(all_of) for what, all_of in answers.items()}


def _rule(name: str, by_id: dict[int, dict[str, str]], far: Sequence[str]) -> dict[str, float]:
    """Return the floor that the chosen half gives: half-way from where it is silent to where it still keeps."""
    rows, embedder = _vectors(name, by_id), chosen_embedder(name)
    asked = _unit(embedder.embed_documents([one["question"] for one in by_id.values()]))
    mine = [place for place, one in enumerate(by_id.values()) if half(one["key"]) == "chosen"]
    own = np.sort((asked * rows).sum(axis=1)[mine])
    strangers = _unit(embedder.embed_documents([query for query in far if half(query) == "chosen"]))
    nearest = np.sort((strangers @ rows.T).max(axis=1))
    silent = float(nearest[int(np.ceil(SILENT * len(nearest))) - 1])
    keeps = float(own[int(np.floor((1 - KEPT[name]) * len(own)))])
    rng = np.random.default_rng(4)
    few = np.concatenate([(strangers @ rows[rng.permutation(len(rows))[:FEW]].T).max(axis=1) for _ in range(100)])
    return {
        "silent from": round(silent, 3),
        f"silent from, among {FEW}": round(float(np.quantile(few, SILENT)), 3),
        "keeps up to": round(keeps, 3),
        "floor": round((silent + keeps) / 2, 2),
    }


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
