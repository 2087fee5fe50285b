"""What a process takes until an agent can answer, beside what importing its four libraries takes anyway.

    python -m bench.starting [--rounds 7] [--dry]

Each figure is of new processes, the sides alternating. Seconds of the processor count: a disk may be cold.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

from rich.console import Console
from rich.progress import track

from bench.reporting import write

TAIL = """
import resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, len(sys.modules), used.ru_maxrss / 1024)
"""
SIDES = {
    "bare": "import langgraph.graph, langgraph.checkpoint.sqlite, sqlalchemy, faiss, wordllama",
    "learngate, imported": "import learngate.graph",
    "learngate, ready": """
from learngate.graph import build_graph
from learngate.stores import open_memory
graph = build_graph(open_memory("sqlite://"), model="offline")
""",
    "learngate, answered": """
from learngate.graph import Context, build_graph
from learngate.stores import open_memory
graph = build_graph(open_memory("sqlite://"), model="offline")
config = {"configurable": {"thread_id": "t"}}
graph.invoke({"messages": [("user", "How do I compare two funds?")]}, config, context=Context(user_id="u"))
""",
}
ASKED = 1.2
console = Console(stderr=True)


def started(code: str) -> tuple[float, float, float]:
    """Return a new process's seconds of the processor, its modules and its megabytes."""
    command = [sys.executable, "-c", code + TAIL]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(said[0]), float(said[1]), float(said[2])


def main() -> int:
    """Run the bench; write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SIDES}
    for number in track(range(given.rounds + 1), "starts", console=console):
        for name, code in SIDES.items():
            figures = started(code)
            if number:  # the first round compiles
                runs[name].append(figures)
    found = {
        name: dict(zip(("cpu_s", "modules", "peak_mb"), map(median, zip(*figures, strict=True)), strict=True))
        for name, figures in runs.items()
    }
    ratio = found["learngate, ready"]["cpu_s"] / found["bare"]["cpu_s"]
    for name, figures in found.items():
        Console().print(
            f"{name}: {figures['cpu_s']:.2f} s of the processor, {figures['modules']:.0f} modules,"
            f" {figures['peak_mb']:.0f} MB",
            highlight=False,
        )
    Console().print(f"ready ÷ bare: {ratio:.2f} (asked ≤ {ASKED})", highlight=False)
    if not given.dry:
        write("starting", {"started": found, "ready ÷ bare": ratio, "asked": ASKED})
    return 0


if __name__ == "__main__":
    sys.exit(main())
