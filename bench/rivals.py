"""Environments of the rivals: each apart from learngate's own, made once and kept."""

from __future__ import annotations

import os
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console


@dataclass(frozen=True, slots=True)
class Rival:
    """A library that is measured beside learngate, and the packages that it takes."""

    name: str
    called: str
    packages: tuple[str, ...]


AGNO = Rival("Agno", "agno-3.1.10", ("agno[sqlite]==3.1.10", "chromadb"))
LANGMEM = Rival("langmem", "langmem-0.0.30", ("langmem==0.0.30", "wordllama==0.4.0.post1"))


def python_of(rival: Rival, console: Console) -> str | None:
    """Return a Python that has a rival; make one where there is none yet. `None` where that cannot be done."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "learngate" / rival.called
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "ready").exists():
        return str(python)
    with console.status(f"installing {' and '.join(rival.packages)} apart (about two minutes) …"):
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *rival.packages]
        installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        reason = (installed.stderr.strip().splitlines() or ["pip said nothing"])[-1][-300:]
        console.print(f"[yellow]{rival.name} could not be installed, so it is left out[/]: {reason}")
        return None
    (folder / "ready").touch()
    return str(python)
