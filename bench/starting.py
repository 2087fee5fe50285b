"""What a process takes until an agent can answer, beside what its four libraries take anyway.

    python -m bench.starting [--rounds 9] [--dry]

Each figure is of new processes, the sides alternating. Seconds of the processor count: a disk may be cold.

`bare` imports LangGraph, SQLAlchemy, FAISS and WordLlama; an agent that is ready has yet to load the last two,
which its first search does. So there is a second pair: `bare` with the weights loaded, a text embedded and searched
for, beside an agent that has answered its first question, with a learning that was found for it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median

from rich.console import Console
from rich.progress import track

from bench.reporting import write

TAIL = """
import resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, len(sys.modules), used.ru_maxrss / 1024)
"""
LIBRARIES = "import langgraph.graph, langgraph.checkpoint.sqlite, sqlalchemy, faiss, wordllama"
READY = """
from learngate.graph import Context, build_graph
from learngate.stores import ProposalDraft, open_memory
memory = open_memory("sqlite://")
graph = build_graph(memory, model="offline")
"""
SIDES = {
    "bare": LIBRARIES,
    "learngate, imported": "import learngate.graph",
    "learngate, ready": READY,
    "bare, loaded": f"""
{LIBRARIES}
from pathlib import Path
import numpy
model = wordllama.WordLlama.load(dim=256, cache_dir=Path(wordllama.__file__).parent, disable_download=True)
index = faiss.IndexFlatIP(256)
index.add(model.embed(["Compare funds by their costs."], norm=True))
index.search(model.embed(["How do I compare two funds?"], norm=True), 1)
""",
    "learngate, answered": f"""
{READY}
memory.learnings.add(
    ProposalDraft("Compare funds", "Compare funds by their costs."), namespace="default", actor="kim"
)
config = {{"configurable": {{"thread_id": "t"}}}}
said = graph.invoke({{"messages": [("user", "How do I compare two funds?")]}}, config, context=Context(user_id="u"))
assert said["recall"]["learnings"], said
""",
}
PAIRS = {
    "ready ÷ bare": ("learngate, ready", "bare"),
    "answered ÷ bare, loaded": ("learngate, answered", "bare, loaded"),
}
ASKED = {"ready ÷ bare": 1.2}
console = Console(stderr=True)


def started(code: str, compiled: str) -> tuple[float, float, float]:
    """Return a new process's seconds of the processor, its modules and its megabytes.

    What is compiled goes into a folder of the bench, so that each side reads bytecode, as what is installed does.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    said = subprocess.run(
        [sys.executable, "-c", code + TAIL],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"PYTHONPYCACHEPREFIX": compiled},
    ).stdout.split()
    return float(said[0]), float(said[1]), float(said[2])


def main() -> int:
    """Run the bench; write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as compiled:
        for number in track(range(given.rounds + 1), "starts", console=console):
            for name, code in SIDES.items():
                figures = started(code, compiled)
                if number:  # the first round compiles
                    runs[name].append(figures)
    found = {
        name: dict(zip(("cpu_s", "modules", "peak_mb"), map(median, zip(*figures, strict=True)), strict=True))
        for name, figures in runs.items()
    }
    ratios = {name: found[ours]["cpu_s"] / found[bare]["cpu_s"] for name, (ours, bare) in PAIRS.items()}
    for name, figures in found.items():
        Console().print(
            f"{name}: {figures['cpu_s']:.2f} s of the processor, {figures['modules']:.0f} modules,"
            f" {figures['peak_mb']:.0f} MB",
            highlight=False,
        )
    for name, ratio in ratios.items():
        Console().print(f"{name}: {ratio:.2f} (asked ≤ {ASKED.get(name, '–')})", highlight=False)
    if not given.dry:
        write("starting", {"started": found, "compared": ratios, "asked": ASKED})
    return 0


if __name__ == "__main__":
    sys.exit(main())
