"""A bench's side as a process that stays: it is asked for some turns of a case, and answers with their seconds.

Needs nothing but Python, because rivals run under a Python of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass
class Spent:
    """Seconds by the clock, and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds of what is done in it."""
        began, began_cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - began
        self.cpu += time.process_time() - began_cpu


class Seconds:
    """The seconds of some turns, without those inside the model, which adds its own here."""

    in_model: ClassVar[Spent] = Spent()

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Time one turn."""
        whole, Seconds.in_model = Spent(), Spent()
        with whole.timed():
            yield
        self.wall.append(whole.wall - Seconds.in_model.wall)
        self.cpu.append(whole.cpu - Seconds.in_model.cpu)


def serve(cases: Mapping[str, Callable[[], Callable[[int], Seconds]]]) -> None:
    """Answer lines `CASE TURNS` on standard input until it ends; a case is made when it is first asked for."""
    made: dict[str, Callable[[int], Seconds]] = {}
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        name, _, count = line.strip().rpartition(" ")
        if name not in made:
            made[name] = cases[name]()
        seconds = made[name](int(count))
        answers.write(json.dumps({"wall": seconds.wall, "cpu": seconds.cpu}) + "\n")
        answers.flush()


class Side:
    """A side of the bench, asked from here."""

    def __init__(self, command: list[str], errors: Path) -> None:
        self._errors = errors
        with errors.open("w") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )

    def turns(self, case: str, count: int) -> dict[str, list[float]]:
        """Return the seconds of so many turns.

        Raises:
            RuntimeError: the side has stopped; the message is the end of what it said.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{case} {count}\n")
        self._process.stdin.flush()
        # What a library prints is no answer.
        for line in self._process.stdout:
            if line.startswith('{"wall"'):
                found: dict[str, list[float]] = json.loads(line)
                return found
        raise RuntimeError(f"{case}: {self._errors.read_text()[-2000:]}")

    def close(self) -> None:
        """Let the side end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)
