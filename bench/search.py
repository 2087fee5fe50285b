"""What a search for learnings costs as they grow, and what it finds; beside LangGraph's InMemoryStore.

    python -m bench.search [--largest 100000] [--dry]

One database holds namespaces of 100, 10,000 and 100,000 learnings, and one of a hundredth of that. A question goes
in as text: the embedding, the words, the vectors and the rows that are returned are all in the time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from langgraph.store.base import PutOp
from langgraph.store.memory import InMemoryStore
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from bench.filling import Words, learn, size
from bench.reporting import write
from learngate.stores import Memory, ProposalDraft, lexical, open_memory, tables
from learngate.stores.embedders import WordLlamaEmbeddings

ASKED = {
    "100": 2.0,
    "10000": 5.0,
    "100000": 20.0,
    "scoped": 5.0,
    "after one new ÷ without": 1.2,
    "recall@10": 0.98,
    "resident MB": 350.0,
}
"""What a figure must not be above; recall not below."""
console = Console(stderr=True)


def milliseconds(work: Callable[[str], Any], questions: Sequence[str]) -> float:
    """Return the median time of a piece of work on each question; a tenth of them warms up."""
    taken = []
    for question in [*questions[: max(2, len(questions) // 10)], *questions]:
        began = time.perf_counter()
        work(question)
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken[-len(questions) :])


def searching(memory: Memory, namespace: str) -> Callable[[str], Any]:
    """Return a search of one namespace."""
    return lambda question: memory.learnings.search(question, namespace=namespace, k=5)


def afterwards(memory: Memory, namespace: str, questions: Sequence[str]) -> dict[str, float]:
    """Return the median of searches after one new learning each, and of those between them without."""
    search = searching(memory, namespace)
    with_new, without = [], []
    for number, question in enumerate(questions):
        memory.learnings.add(
            ProposalDraft(f"New rule {number}", f"Rule {number} says: {question}."),
            namespace=namespace,
            actor="kim",
        )
        with_new.append(milliseconds_once(search, question))
        without.append(milliseconds_once(search, question))
    return {"after one new": median(with_new), "without": median(without)}


def milliseconds_once(work: Callable[[str], Any], question: str) -> float:
    began = time.perf_counter()
    work(question)
    return (time.perf_counter() - began) * 1000


def recall(memory: Memory, namespace: str, questions: Sequence[str], k: int = 10) -> float:
    """Return the share of the truly nearest `k`, by the vectors in SQL, that the dense index finds."""
    scope = lexical.scope_token("namespace", namespace)
    with memory.database.read() as connection:
        rows = connection.execute(
            select(tables.embeddings.c.row_id, tables.embeddings.c.vector).where(
                tables.embeddings.c.kind == "learning", tables.embeddings.c.scope == scope
            )
        ).all()
    matrix = np.stack([np.asarray(row.vector, dtype=np.float32) for row in rows])
    embedder, shares = WordLlamaEmbeddings(), []
    index = dense_index(memory)
    for question in questions:
        query = np.asarray(embedder.embed_query(question), dtype=np.float32)
        cosines = matrix @ query
        kth = np.partition(cosines, -k)[-k]
        true = {rows[at].row_id for at in np.flatnonzero(cosines >= kth)}
        found = index.search("learning", [scope], query, k)
        shares.append(len(true & set(found)) / k)
    return float(np.mean(shares))


def dense_index(memory: Memory) -> Any:
    """Return a new dense index on a memory's vectors."""
    from learngate.stores.memory import index_on

    return index_on(memory.database, memory.vectors)


RESIDENT = """
import sys
import langgraph.graph, learngate.graph
from learngate.stores import open_memory
with open_memory(sys.argv[1]) as memory:
    memory.learnings.search(sys.argv[3], namespace=sys.argv[2])
    status = open("/proc/self/status").read().splitlines()
    print(*(int(line.split()[1]) / 1024 for name in ("VmRSS", "VmHWM") for line in status if line.startswith(name)))
"""


def resident(url: str, namespace: str, question: str) -> dict[str, float]:
    """Return the megabytes of a new process that has searched a namespace: those it holds, and the most it held."""
    command = [sys.executable, "-c", RESIDENT, url, namespace, question]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {"resident MB": float(said[0]), "peak MB": float(said[1])}


def in_memory_store(told: list[list[str]], questions: Sequence[str]) -> float:
    """Return the median of searches in LangGraph's InMemoryStore, with the same embedder."""
    embedder = WordLlamaEmbeddings()
    store = InMemoryStore(index={"embed": embedder, "dims": 256, "fields": ["text"]})
    store.batch([PutOp(("finance",), str(n), {"text": " ".join(words)}) for n, words in enumerate(told)])
    return milliseconds(lambda question: store.search(("finance",), query=question, limit=5), questions)


def measured(folder: Path, largest: int) -> dict[str, Any]:
    """Fill a database and measure it."""
    url = f"sqlite:///{folder}/learngate.db"
    words = Words()
    counts = {str(count): count for count in (100, 10_000, largest)} | {"scoped": largest // 100}
    told = {name: words.texts(count, 35) for name, count in counts.items()}
    asked = {name: words.questions(texts, 100) for name, texts in told.items()}
    found: dict[str, Any] = {"learnings": counts}
    with open_memory(url) as memory:
        for name, texts in told.items():
            learn(memory, name, texts)
        console.print("embedding …")
        found["first search, embedding all, s"] = {
            name: milliseconds_once(searching(memory, name), asked[name][0]) / 1000 for name in counts
        }
    found |= resident(url, str(largest), asked[str(largest)][0])
    found["file MB"] = size(folder / "learngate.db") / 2**20
    with open_memory(url) as memory:
        console.print("searching …")
        found["first search of a process, s"] = {
            name: milliseconds_once(searching(memory, name), asked[name][0]) / 1000 for name in counts
        }
        found["search, ms"] = {name: milliseconds(searching(memory, name), asked[name]) for name in counts}
        found |= afterwards(memory, str(largest), asked[str(largest)][:20])
        found["after one new ÷ without"] = found["after one new"] / found["without"]
        found["recall@10"] = recall(memory, str(largest), asked[str(largest)][:50])
    found["InMemoryStore, ms"] = {
        name: in_memory_store(told[name], asked[name][:10]) for name in ("100", "10000") if name in told
    }
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    table = Table("learnings in the namespace", "search, ms", "asked", "InMemoryStore, ms")
    for name, ms in found["search, ms"].items():
        rival = found["InMemoryStore, ms"].get(name)
        table.add_row(
            f"{name} ({found['learnings'][name]:,})",
            f"{ms:.2f}",
            f"≤ {ASKED.get(name, '–')}",
            f"{rival:.1f}" if rival else "–",
        )
    Console().print(table)
    for name in (
        "after one new",
        "without",
        "after one new ÷ without",
        "recall@10",
        "resident MB",
        "peak MB",
        "file MB",
    ):
        Console().print(f"{name}: {found[name]:.2f} (asked {ASKED.get(name, '–')})", highlight=False)
    Console().print({name: found[name] for name in found if name.startswith("first")})


def main() -> int:
    """Run the bench; write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), given.largest)
    show(found)
    if not given.dry:
        write("search", found | {"asked": ASKED})
    return 0


if __name__ == "__main__":
    sys.exit(main())
