"""Lines that a person types, and messages that come through a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text

from learngate.app.screen import ACCENT, console, visible


def ask_line(prompt: str, *, prefill: str = "", style: str = ACCENT) -> str:
    """Ask for one line, with line editing and `prefill` to edit where the terminal can.

    Raises:
        EOFError: Ctrl-D, or the input has ended.
        KeyboardInterrupt: Ctrl-C.
    """
    lenient(sys.stdin)
    prompt = visible(prompt)
    readline = _readline()
    if readline is None:
        console().print(Text(prompt, style=style), end="")
        return input()
    # readline must know the prompt to redraw it, and which of its characters take no room.
    if prefill and "\n" not in prefill:
        readline.set_startup_hook(lambda: readline.insert_text(prefill))
    try:
        return input(_coloured(prompt, style))
    finally:
        readline.set_startup_hook()


class Usage(typer.BadParameter):
    """A command that was called in a way that cannot be; its message stands alone."""

    def format_message(self) -> str:
        """Return the message, with nothing before it."""
        return str(self.message)


def nobody_to_ask() -> Usage:
    """Return the error where a command would ask, and nobody sits there."""
    return Usage("there is nobody to ask: add --yes")


def has_prefill() -> bool:
    """Whether `ask_line` can offer a text to edit."""
    return _readline() is not None


def piped_lines() -> Iterator[str]:
    """Yield what is piped in, line by line, without the line ends; lines with nothing in them are skipped.

    Bytes that are no UTF-8 come as lone surrogates, which the stores refuse with a reason.
    """
    lenient(sys.stdin)
    for line in sys.stdin:
        text = line.rstrip("\r\n")
        if text.strip():
            yield text


def given_text(text: str) -> str:
    """Return a text from the command line; `-` stands for everything on stdin."""
    if text != "-":
        return text
    lenient(sys.stdin)
    return sys.stdin.read()


def lenient(stream: object) -> None:
    """Let undecodable bytes through as lone surrogates, instead of an error deep in a read."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors != "surrogateescape":
        stream.reconfigure(errors="surrogateescape")


def _readline() -> Any:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    try:
        import readline
    except ImportError:  # Windows
        return None
    return readline


def _coloured(prompt: str, style: str) -> str:
    target = console()
    with target.capture() as captured:
        target.print(Text(prompt, style=style), end="")
    painted = captured.get()
    if painted == prompt:
        return prompt
    before, _, after = painted.partition(prompt)
    return f"\x01{before}\x02{prompt}\x01{after}\x02"
