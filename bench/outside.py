"""What dense search in a vector store outside costs beside the one in memory: to fill it, and to search it.

    python -m bench.outside [--learnings 10000] [--dry]

Chroma in a folder and Qdrant in this process, as their packages offer them; a server's network comes on top. The
questions of the three come in turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import chromadb
import numpy as np
from langchain_chroma import Chroma
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models
from rich.console import Console
from rich.table import Table

from bench.filling import Words, learn
from bench.reporting import write
from learngate.stores import lexical, open_memory
from learngate.stores.hybrid import CANDIDATES
from learngate.stores.vector_store import Make, StoredVectors, in_vector_store

console = Console(stderr=True)


def in_chroma(folder: Path) -> Make:
    client = chromadb.PersistentClient(folder, settings=chromadb.Settings(anonymized_telemetry=False))
    exact = {"hnsw": {"space": "cosine", "ef_construction": 400, "max_neighbors": 48, "ef_search": 400}}
    return lambda embedder: Chroma(embedder.name, embedder, client=client, collection_configuration=exact)


def in_qdrant() -> Make:
    client = QdrantClient(":memory:")

    def make(embedder: StoredVectors) -> QdrantVectorStore:
        size = models.VectorParams(size=embedder.dimensions, distance=models.Distance.COSINE)
        client.create_collection(embedder.name, vectors_config=size)
        return QdrantVectorStore(client, embedder.name, embedder)

    return make


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    given = work()
    return time.perf_counter() - began, given


def measured(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Fill the three, and ask each the same."""
    words = Words()
    told = words.texts(count, 35)
    asked = words.questions(told, 20)
    scope = [lexical.scope_token("namespace", "n")]
    kinds = {"memory": None, "Chroma": in_chroma(folder / "chroma"), "Qdrant, in this process": in_qdrant()}
    with ExitStack() as open_:
        memories = {
            name: open_.enter_context(
                open_memory(f"sqlite:///{folder}/{number}.db", index=in_vector_store(make) if make else None)
            )
            for number, (name, make) in enumerate(kinds.items())
        }
        found: dict[str, dict[str, float]] = {}
        for name, memory in memories.items():
            learn(memory, "n", told)
            found[name] = {"s to fill": timed(lambda memory=memory: list(memory.embed()))[0]}
        taken: dict[str, list[float]] = {name: [] for name in memories}
        dense: dict[str, list[float]] = {name: [] for name in memories}
        shares: dict[str, list[float]] = {name: [] for name in memories}
        for question in [*asked[:3], *asked]:
            exact: set[int] = set()
            for name, memory in memories.items():
                seconds, _ = timed(lambda m=memory, q=question: m.learnings.search(q, namespace="n"))
                taken[name].append(seconds * 1000)
                query = memory.vectors.of_query(question)
                # As many as a search asks for, to choose from.
                seconds, rows = timed(lambda m=memory, q=query: m._index.search("learning", scope, q, CANDIDATES))
                dense[name].append(seconds * 1000)
                nearest = set(sorted(rows, key=rows.__getitem__, reverse=True)[:10])
                exact = exact or nearest
                shares[name].append(len(exact & nearest) / 10)
        for name in memories:
            found[name]["ms a search"] = median(taken[name][3:])
            found[name]["of it dense, ms"] = median(dense[name][3:])
            found[name]["recall@10 against memory"] = float(np.mean(shares[name]))
    return {name: {key: round(value, 3) for key, value in figures.items()} for name, figures in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learnings", type=int, default=10_000)
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), given.learnings)
    table = Table("", *found)
    for key in found["memory"]:
        table.add_row(key, *(f"{figures[key]:g}" for figures in found.values()))
    console.print(table)
    if not given.dry:
        write("outside", {"learnings": given.learnings} | found)


if __name__ == "__main__":
    sys.exit(main())
