"""Several processes of one script that begin at the same moment; needs nothing but Python."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds after which a process that does not come is given up."""


def begin(folder: Path, name: str) -> None:
    """Say that this process is ready, and wait until all others are, too."""
    (folder / f"{name}.ready").touch()
    gate = folder / "go"
    deadline = time.monotonic() + PATIENCE
    while not gate.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the others did not come")
        time.sleep(0.002)


def children(script: str, folder: Path, jobs: list[list[str]]) -> list[Any]:
    """Run a script once for each list of arguments, all at once; return what each says as JSON, None if killed.

    A child is called as `script child FOLDER NAME …`, and calls `begin` when it has all it needs.
    """
    for old in [*folder.glob("*.ready"), *folder.glob("go")]:
        old.unlink()
    started = [
        subprocess.Popen(
            [sys.executable, script, "child", str(folder), str(number), *job],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, job in enumerate(jobs)
    ]
    deadline = time.monotonic() + PATIENCE
    while not all(
        (folder / f"{number}.ready").exists() or p.poll() is not None for number, p in enumerate(started)
    ):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    (folder / "go").touch()
    said = []
    for process in started:
        out, error = process.communicate(timeout=PATIENCE)
        lines = [line for line in out.splitlines() if line.startswith("{") or line.startswith("[")]
        if not lines and process.returncode not in (0, -9):
            raise RuntimeError(f"a child failed: {error[-800:]}")
        said.append(json.loads(lines[-1]) if lines else None)
    return said


def child(script: str, folder: Path, *job: str) -> Any:
    """Run one child to its end."""
    return children(script, folder, [[*job]])[0]


def say(value: Any) -> None:
    """Say something as JSON, so that it arrives even if this process is killed next."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()
