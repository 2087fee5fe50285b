"""Looks for new examples of every law until the time is up: `python -m tests.soak [minutes]`.

In rounds: the state machines and the property tests, each with examples of its own, then a part of the fuzzing,
on SQLite and on PostgreSQL. The first that fails says how to try it again, and ends the soak with status 1.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from time import monotonic

FUZZ = [sys.executable, "-m", "tests.fuzz", "--examples", "4000", "--database"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "2", "--timeout=0"]
ROUND = [
    [*FUZZ, "sqlite"],
    [*FUZZ, "postgres"],
    [*PYTEST, "--hypothesis-profile=soak", "-m", "hypothesis", "tests"],
]
PATIENCE_SECONDS = 60


def main() -> int:
    """Run rounds until the time is up; what is then cut short has found nothing yet."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    ends, done = monotonic() + minutes * 60, 0
    while True:
        for command in ROUND:
            status = run(command, ends - monotonic())
            if status is None:
                sys.stdout.write(f"{done} parts were run in {minutes:g} minutes, and nothing was found\n")
                return 0
            if status != 0:
                return 1
            done += 1


def run(command: list[str], seconds: float) -> int | None:
    """Run a command and return its status; `None` where its time was up, and it was asked to stop."""
    if seconds <= 0:
        return None
    process = subprocess.Popen(command)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        # Asked, not killed: it ends the server that it has started.
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)
        return None
    finally:
        process.kill()


if __name__ == "__main__":
    sys.exit(main())
