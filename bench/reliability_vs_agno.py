"""Nothing lost, nothing doubled, nothing leaked: the same scenarios on learngate and on Agno, in one run.

    python bench/reliability_vs_agno.py [--rival-python PYTHON] [--json FILE]

Agno is not among learngate's dependencies: it runs under a Python of its own. Without `--rival-python` a virtual
environment is made under the cache folder and `agno` is installed there with pip.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rivals import AGNO, python_of

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "reliability_vs_agno.json"
SECONDS = 900.0

LINES: dict[str, tuple[str, int]] = {
    "b.resumed": ("b · killed while it waits, approved by a new process: actions run", 1),
    "b.replayed": ("b · the same approval sent again: actions run more", 0),
    "b.stranger": ("b · another user approves it: actions run", 0),
    "b.killed_inside": ("b · killed inside the approved action, approved again: actions run", 1),
    "b2.effects": ("b2 · 4 processes approve at once: actions run", 1),
    "b2.told_wrong": ("b2 · approve against reject at once, twice: told what does not stand", 0),
    "b3.while_pending": ("b3 · resumed by its caller while nobody has decided: actions run", 0),
    "b3.after_rejection": ("b3 · approved by its caller after a reviewer's rejection: actions run", 0),
    "b3.decided_twice": ("b3 · a second decision on the same: accepted", 0),
    "c.turns_lost": ("c · 2 processes × 100 turns of one session: acknowledged and lost", 0),
    "c.memories_lost": ("c · 2 processes × 200 memories: acknowledged and lost", 0),
    "c.updates_lost": ("c · 2 processes × 100 updates of one record: acknowledged and lost", 0),
    "c2.lost": ("c2 · 2 and 4 processes × 200 memories, new database or not: lost", 0),
    "d.copies": ("d · the same learning saved three times: copies", 1),
    "d.dropped": ("d · a correction under the same title: acknowledged and dropped", 0),
    "d.unapproved": ("d · learnings saved that nobody approved", 0),
    "d.rejected_again": ("d · a rejected text in the model's next prompt", 0),
    "d.same_memory": ("d · the same memory stored five times: copies", 1),
    "d.private": ("d · one user's private note in another user's prompt", 0),
    "e.nobody": ("e · what somebody without a name said, in somebody else's prompt", 0),
    "e.session": ("e · a user's session read by a caller who names no user", 0),
    "e.locked": ("e · 3 writes while the database is locked: acknowledged and not stored", 0),
}
"""What each measurement means, and what it should be."""


def main() -> int:
    """Run both sides, print the table, write the JSON."""
    given = arguments()
    console = Console()
    began = time.monotonic()
    ours = side(sys.executable, "our_side.py", console)
    rival = given.rival_python or python_of(AGNO, console)
    theirs = side(rival, "agno_side.py", console) if rival else {}
    show(console, ours, theirs)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(report(ours, theirs, time.monotonic() - began), indent=1) + "\n")
    return int(any(ours.get(key) != wanted for key, (_, wanted) in LINES.items()))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival-python", metavar="PYTHON", help="a Python that has agno[sqlite] and chromadb")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    return parser.parse_args()


def side(python: str, script: str, console: Console) -> dict[str, int]:
    """Run one side's scenarios; return what it measured."""
    name = "learngate" if script.startswith("our") else "Agno"
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        command = [python, str(HERE / script), folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        with console.status(f"{name} …") as status:
            for line in process.stdout:
                if line.startswith('{"title"'):
                    said = json.loads(line)
                    found |= said["found"]
                    status.update(f"{name} … {said['title']}")
        if process.wait(SECONDS):
            errors.seek(0)
            console.print(f"[red]{name} stopped[/]: {errors.read()[-600:]}", highlight=False)
    return found


def show(console: Console, ours: dict[str, int], theirs: dict[str, int]) -> None:
    """Print the measurements side by side."""
    table = Table("", "wanted", "learngate", "Agno 3.1.10", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for key, (what, wanted) in LINES.items():
        table.add_row(what, str(wanted), cell(ours, key, wanted), cell(theirs, key, wanted))
    console.print(table)


def cell(found: dict[str, int], key: str, wanted: int) -> str:
    """Return a figure, red where it is not as wanted."""
    if key not in found:
        return "–"
    return str(found[key]) if found[key] == wanted else f"[red]{found[key]}[/]"


def report(ours: dict[str, int], theirs: dict[str, int], seconds: float) -> dict[str, Any]:
    """Return the figures with what they were measured on."""
    lines = {
        key: {"what": what, "wanted": wanted, "learngate": ours.get(key), "agno": theirs.get(key)}
        for key, (what, wanted) in LINES.items()
    }
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "seconds": round(seconds),
        "rival": list(AGNO.packages),
        "lines": lines,
    }


if __name__ == "__main__":
    sys.exit(main())
