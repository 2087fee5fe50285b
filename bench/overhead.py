"""What a turn costs beside the model: on learngate, on the same graph with empty nodes, and on Agno, in one run.

    python -m bench.overhead [--turns 200] [--many] [--rival-python PYTHON | --no-rival]

Each turn has a history of 5, the user's memories, 100 learnings searched by meaning and by words, an SQLite file
and checkpoints, and a reflection (Agno: memory extraction) that finds nothing. The sides alternate, a session of 20
at a time. `--many` adds a user with 10,000 memories (some minutes: Agno takes seconds a turn).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.reporting import write
from bench.rivals import AGNO, python_of
from bench.serving import Side

HERE = Path(__file__).parent
ROUND = 20
FEW = ["learngate async 10", "learngate exit 10", "empty async", "empty exit"]
MANY = ["learngate async 10000", "learngate exit 10000"]
RIVALS = ["agno auto 10", "agno agentic 10"]
RIVALS_MANY = ["agno auto 10000", "agno agentic 10000"]
ASKED = {
    "async ÷ agno": 0.8,
    "exit ÷ agno": 0.4,
    "async − empty, ms": 8.0,
    "exit − empty, ms": 8.0,
    "async, 10,000 ÷ 10 memories": 1.3,
    "exit, 10,000 ÷ 10 memories": 1.3,
}
"""What each comparison must not be above."""
console = Console(stderr=True)


def measured(turns: int, *, many: bool, rival: str | None) -> dict[str, dict[str, float]]:
    """Return each case's medians in milliseconds."""
    names = FEW + (RIVALS if rival else []) + (MANY if many else []) + (RIVALS_MANY if rival and many else [])
    found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        ours = Side([sys.executable, "-m", "bench.turns", folder], Path(folder, "ours.log"))
        theirs = Side([rival, str(HERE / "agno_turns.py"), folder], Path(folder, "agno.log")) if rival else None
        sides = {name: theirs if name.startswith("agno") else ours for name in names}
        chosen = random.Random(5)
        for number in track(range(turns // ROUND + 1), "turns", console=console):
            for name in chosen.sample(names, len(names)):
                side = sides[name]
                assert side is not None
                # At 10,000 memories a turn of Agno's takes seconds: a few must do.
                count = ROUND if name not in RIVALS_MANY else 2
                seconds = side.turns(name, count)
                if number:  # the first round warms up
                    for kind, values in seconds.items():
                        found[name][kind] += values
        for one in filter(None, (ours, theirs)):
            one.close()
    return {
        name: {"turns": len(seconds["wall"]), **{kind: median(seconds[kind]) * 1000 for kind in seconds}}
        for name, seconds in found.items()
    }


def compared(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the figures that count: ratios and differences, by the clock and of the processor."""
    made: dict[str, dict[str, float]] = {}
    for kind in ("wall", "cpu"):
        ms = {name: figures[kind] for name, figures in found.items()}
        for way in ("async", "exit"):
            ours = ms[f"learngate {way} 10"]
            made.setdefault(f"{way} − empty, ms", {})[kind] = ours - ms[f"empty {way}"]
            if "agno auto 10" in ms:
                made.setdefault(f"{way} ÷ agno", {})[kind] = ours / ms["agno auto 10"]
            if f"learngate {way} 10000" in ms:
                many = ms[f"learngate {way} 10000"]
                made.setdefault(f"{way}, 10,000 ÷ 10 memories", {})[kind] = many / ours
    return made


def show(found: dict[str, dict[str, float]], comparisons: dict[str, dict[str, float]]) -> None:
    """Print the figures for people."""
    table = Table("a turn beside the model", "wall, ms", "CPU, ms", "asked")
    for name, figures in found.items():
        table.add_row(name, f"{figures['wall']:.1f}", f"{figures['cpu']:.1f}", "")
    for name, of in comparisons.items():
        table.add_row(name, f"{of['wall']:.2f}", f"{of['cpu']:.2f}", f"≤ {ASKED[name]}")
    Console().print(table)


def main() -> int:
    """Run the bench; write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=200, help="of each case")
    parser.add_argument("--many", action="store_true", help="also a user with 10,000 memories")
    parser.add_argument("--rival-python", metavar="PYTHON", help="a Python that has agno[sqlite] and chromadb")
    parser.add_argument("--no-rival", action="store_true", help="learngate and the empty graph only")
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    rival = None if given.no_rival else given.rival_python or python_of(AGNO, console)
    found = measured(given.turns, many=given.many, rival=rival)
    comparisons = compared(found)
    show(found, comparisons)
    if not given.dry:
        results: dict[str, Any] = {"medians_ms": found, "compared": comparisons, "asked": ASKED}
        write("overhead", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
