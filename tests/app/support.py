"""What these tests share: `learngate` as a process, in a pipe and on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.doubles.gemini import GeminiDouble, Reply, Request

LEARNGATE = str(Path(sys.executable).parent / "learngate")
RULE = "When comparing ETFs, check both expense ratio and tracking error."
INSIGHT = RULE
GEMINI = "google_genai:gemini-3-flash-preview"

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>]|[\x07\x0f\r]")


def learngate(*args, cwd, stdin=b"", env=None, timeout=60):
    """Run a command in a pipe; what it printed comes as text, and must never be a traceback."""
    done = subprocess.run(
        [LEARNGATE, *args],
        cwd=cwd,
        input=stdin,
        env=os.environ | {"COLUMNS": "80"} | (env or {}),
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


class Terminal:
    """A `learngate` process on a pseudo-terminal, with somebody who reads and types."""

    def __init__(self, *args, cwd, env=None, columns=80, lines=50) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR", "CI"}}
        self.process = subprocess.Popen(
            [LEARNGATE, *args],
            cwd=cwd,
            env=environment | {"TERM": "xterm-256color", "INPUTRC": "/dev/null"} | (env or {}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(slave)
        self.raw = b""
        self.seen = 0

    @property
    def text(self) -> str:
        """Everything that was shown so far, without escape sequences."""
        return ESCAPES.sub("", self.raw.decode(errors="replace"))

    def expect(self, wanted: str, seconds: float = 60) -> str:
        """Read until something new shows `wanted`, and return all that is new up to there."""
        deadline = time.monotonic() + seconds
        while (at := self.text.find(wanted, self.seen)) < 0:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready or not self._read():
                raise AssertionError(f"{wanted!r} did not come, but:\n{self.text[self.seen :]}")
        shown = self.text[self.seen : at + len(wanted)]
        self.seen = at + len(wanted)
        return shown

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.master, f"{text}\n".encode())

    def press(self, key: bytes) -> None:
        """Press a key, such as Ctrl-C."""
        os.write(self.master, key)

    def interrupt(self, wanted: str) -> None:
        """Press Ctrl-C at a prompt until it shows `wanted`.

        Python's readline does not hear one that comes just after the prompt was written, until the next key.
        """
        for _ in range(20):
            self.press(b"\x03")
            while select.select([self.master], [], [], 1.0)[0]:
                if not self._read():
                    break
                if wanted in self.text[self.seen :]:
                    self.expect(wanted)
                    return
        raise AssertionError(f"Ctrl-C did nothing:\n{self.text[self.seen :]}")

    def end(self, seconds: float = 30) -> int:
        """Read to the end, and return the exit status; no traceback was shown."""
        while select.select([self.master], [], [], seconds)[0] and self._read():
            pass
        status = self.process.wait(timeout=seconds)
        assert "Traceback" not in self.text, self.text
        return status

    def _read(self) -> bool:
        try:
            more = os.read(self.master, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.raw += more
        return bool(more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A parent that ignores Ctrl-C, such as a background job, would hand that down.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Gemini(GeminiDouble):
    """The double, for a child process; `arrived` says that the child has asked for something slow."""

    def __init__(self, **replies) -> None:
        super().__init__(**replies)
        self.arrived = threading.Event()

    def take(self, request: Request) -> Reply:
        """Record a request and take its reply."""
        reply = super().take(request)
        if type(reply).__name__ == "Slow":
            self.arrived.set()
        return reply

    @property
    def env(self) -> dict[str, str]:
        """The environment that leads the real client here."""
        return {"GOOGLE_API_KEY": "test", "GOOGLE_GEMINI_BASE_URL": self.url}
