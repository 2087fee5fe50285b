"""Where a bench's figures go: JSON with what they were measured on and the command, beside the benches."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write(name: str, figures: dict[str, Any]) -> Path:
    """Write a bench's figures into `results/NAME.json`."""
    path = RESULTS / f"{name}.json"
    # Where a file lies on this machine is no news to anybody.
    given = " ".join("PATH" if os.sep in one else one for one in sys.argv[1:])
    about = {
        "command": f"python -m bench.{Path(sys.argv[0]).stem} {given}".strip(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(about | figures, indent=1, ensure_ascii=False) + "\n")
    return path
