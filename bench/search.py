"""What a search for learnings costs as they grow, and what it finds; beside langmem and LangGraph's stores.

    python -m bench.search [--largest 100000] [--no-rival] [--dry]

One database holds namespaces of 100, 10,000 and 100,000 learnings, and one of a hundredth of that. A question goes
in as text: the embedding, the words, the vectors and the rows that are returned are all in the time. The rivals
are given the same texts, questions and embedder: LangGraph's `InMemoryStore`, langmem's search on it, and
LangGraph's `PostgresStore` where the tests' PostgreSQL can be started. They compare vectors only, and are asked
up to 10,000. With another `--largest` than 100,000 the figures go to `results/search_LARGEST.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.memory import InMemoryStore
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from bench.filling import Words, learn, size
from bench.reporting import write
from bench.rivals import LANGMEM, python_of
from bench.serving import Spent
from learngate.stores import Memory, ProposalDraft, lexical, open_memory, tables
from learngate.stores.embedders import WordLlamaEmbeddings
from tests.databases import MISSING, new_postgres

LARGEST = 100_000
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


def milliseconds(
    work: Callable[[str], Any], questions: Sequence[str], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median time of a piece of work on each question; a tenth of them warms up."""
    taken = []
    for question in [*questions[: max(2, len(questions) // 10)], *questions]:
        began = clock()
        work(question)
        taken.append((clock() - began) * 1000)
    return median(taken[-len(questions) :])


def searching(memory: Memory, namespace: str) -> Callable[[str], Any]:
    """Return a search of one namespace."""
    return lambda question: memory.learnings.search(question, namespace=namespace, k=5)


def afterwards(memory: Memory, namespace: str, questions: Sequence[str]) -> dict[str, float]:
    """Return the median of searches after one new learning each, and of those between them without."""
    search = searching(memory, namespace)
    taken: dict[str, list[float]] = {}
    for number, question in enumerate(questions):
        memory.learnings.add(
            ProposalDraft(f"New rule {number}", f"Rule {number} says: {question}."),
            namespace=namespace,
            actor="kim",
        )
        for name in ("after one new", "without"):
            spent = Spent()
            with spent.timed():
                search(question)
            taken.setdefault(name, []).append(spent.wall * 1000)
            taken.setdefault(f"{name}, CPU", []).append(spent.cpu * 1000)
    found = {name: median(values) for name, values in taken.items()}
    for kind in ("", ", CPU"):
        found[f"after one new ÷ without{kind}"] = found[f"after one new{kind}"] / found[f"without{kind}"]
    return found


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


Texts = Mapping[str, tuple[list[str], list[str]]]
"""By size: what was learned, and what is asked."""
INDEX: dict[str, Any] = {"embed": WordLlamaEmbeddings(), "dims": 256, "fields": ["text"]}


def in_store(store: BaseStore, told: Sequence[str], asked: Sequence[str]) -> float:
    """Return the median of searches in one of LangGraph's stores."""
    for start in range(0, len(told), 500):
        part = enumerate(told[start : start + 500], start)
        store.batch([PutOp(("finance", str(len(told))), str(n), {"text": text}) for n, text in part])
    return milliseconds(lambda question: store.search(("finance", str(len(told))), query=question, limit=5), asked)


def in_postgres_store(texts: Texts) -> dict[str, float]:
    """Return the median of searches in `PostgresStore` (pgvector, its HNSW index), by size."""
    from langgraph.store.postgres import PostgresStore

    with new_postgres() as url, PostgresStore.from_conn_string(url.replace("+psycopg", ""), index=INDEX) as store:
        store.setup()
        return {name: in_store(store, *one) for name, one in texts.items()}


def in_langmem(texts: Texts, folder: Path) -> dict[str, float]:
    """Return the median of langmem's searches, by size; nothing where it cannot be installed."""
    python = python_of(LANGMEM, console)
    if python is None:
        return {}
    given = folder / "texts.json"
    given.write_text(json.dumps({name: {"told": told, "asked": asked} for name, (told, asked) in texts.items()}))
    command = [python, str(Path(__file__).parent / "langmem_side.py"), str(given)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        console.print(f"[yellow]langmem stopped, so it is left out[/]: {ran.stderr[-300:]}", highlight=False)
        return {}
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def rivals(texts: Texts, folder: Path) -> dict[str, dict[str, float]]:
    """Return each rival's median milliseconds, by size."""
    found = {"InMemoryStore": {name: in_store(InMemoryStore(index=INDEX), *one) for name, one in texts.items()}}
    console.print("langmem …")
    found["langmem"] = in_langmem(texts, folder)
    if MISSING:
        console.print(f"[yellow]PostgresStore is left out[/]: {', '.join(MISSING)} not installed")
    else:
        console.print("PostgresStore …")
        found["PostgresStore"] = in_postgres_store(texts)
    return {name: figures for name, figures in found.items() if figures}


def measured(folder: Path, largest: int, *, beside: bool) -> dict[str, Any]:
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
        found["search, CPU ms"] = {
            name: milliseconds(searching(memory, name), asked[name], time.process_time) for name in counts
        }
        found |= afterwards(memory, str(largest), asked[str(largest)][:20])
        found["recall@10"] = recall(memory, str(largest), asked[str(largest)][:50])
    if beside:
        texts = {name: ([" ".join(one) for one in told[name]], asked[name][:20]) for name in ("100", "10000")}
        found["rivals, ms"] = rivals(texts, folder)
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    beside = found.get("rivals, ms", {})
    table = Table("learnings in the namespace", "search, ms", "CPU, ms", "asked", *beside)
    for name, ms in found["search, ms"].items():
        table.add_row(
            f"{name} ({found['learnings'][name]:,})",
            f"{ms:.2f}",
            f"{found['search, CPU ms'][name]:.2f}",
            f"≤ {ASKED.get(name, '–')}",
            *(f"{figures[name]:.1f}" if name in figures else "–" for figures in beside.values()),
        )
    Console().print(table)
    for name in (
        "after one new",
        "without",
        "after one new ÷ without",
        "after one new ÷ without, CPU",
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
    parser.add_argument("--largest", type=int, default=LARGEST)
    parser.add_argument("--no-rival", action="store_true", help="learngate only")
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), given.largest, beside=not given.no_rival)
    show(found)
    if not given.dry:
        name = "search" if given.largest == LARGEST else f"search_{given.largest}"
        write(name, found | {"asked": ASKED})
    return 0


if __name__ == "__main__":
    sys.exit(main())
