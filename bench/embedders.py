"""What each local embedder costs: time, memory and what its packages take on the disk.

    python -m bench.embedders [--rounds 5] [--dry]

Each figure is the median of new processes that keep to one core. The texts are the learnings and the questions of
`bench/data/recall.json`; what an embedder finds is measured by `bench/recall.py` and `bench/locomo.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import median

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from bench.reporting import write

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
DATA = Path(__file__).parent / "data" / "recall.json"
NAMES = ("wordllama", "minilm")
MEASURED = """
import json, os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
import numpy
from learngate.stores.embedders import chosen_embedder

def resident():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

texts, questions = json.loads(sys.stdin.read())
before, used = resident(), time.process_time()
embedder = chosen_embedder(sys.argv[1])
embedder.embed_query("learngate")
loaded = time.process_time() - used
embedder.embed_documents(texts)
taken = []
for question in questions:
    began = time.process_time()
    embedder.embed_query(question)
    taken.append(time.process_time() - began)
began = time.process_time()
embedder.embed_documents(texts)
batch = time.process_time() - began
print(json.dumps({
    "seconds to load": loaded,
    "milliseconds a question": sorted(taken)[len(taken) // 2] * 1000,
    "milliseconds a learning, of many": batch / len(texts) * 1000,
    "resident MB": resident() - before,
}))
"""
console = Console(stderr=True)


def measured(name: str, texts: list[str], questions: list[str]) -> dict[str, float]:
    """Return the figures of one new process."""
    said = subprocess.run(
        [sys.executable, "-c", MEASURED, name],
        input=json.dumps([texts, questions]),
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(said.stdout)
    return figures


def needed(requirements: list[str]) -> set[str]:
    """Return the distributions that requirements need, with all that those need, as installed here."""
    found: set[str] = set()
    waiting = [Requirement(one) for one in requirements]
    while waiting:
        name = waiting.pop().name.lower().replace("_", "-")
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        asked = map(Requirement, requires)
        waiting += [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def megabytes(names: set[str]) -> float:
    """Return what distributions take on the disk."""
    files = [file for name in names for file in distribution(name).files or []]
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    given = parser.parse_args()
    data = json.loads(DATA.read_text())
    texts = [
        "\n".join(filter(None, (one["title"], one["insight"], one["applies_when"]))) for one in data["learnings"]
    ]
    questions = [one["question"] for one in data["learnings"]]
    project = tomllib.loads(PROJECT.read_text())["project"]
    everything = needed(project["dependencies"])
    own = {
        "wordllama": everything - needed([one for one in project["dependencies"] if "wordllama" not in one]),
        "minilm": needed(project["optional-dependencies"]["embed"]) - everything,
    }
    figures: dict[str, dict[str, float]] = {}
    rounds = {name: [measured(name, texts, questions) for _ in range(given.rounds)] for name in NAMES}
    for name in NAMES:
        figures[name] = {key: round(median(one[key] for one in rounds[name]), 2) for key in rounds[name][0]}
        figures[name]["MB installed"] = round(megabytes(own[name]), 1)
        console.print(name, sorted(own[name]))
    table = Table("", *NAMES)
    for key in figures["wordllama"]:
        table.add_row(key, *(f"{figures[name][key]:g}" for name in NAMES))
    console.print(table)
    if not given.dry:
        console.print(write("embedders", {"texts": len(texts), "questions": len(questions)} | figures))


if __name__ == "__main__":
    main()
