"""What the commands print with: text made safe for a terminal, tables, JSON, notes and errors."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

ACCENT = "cyan"
WIDEST = 100
"""Columns after which a line of prose is tiring to read."""

# Escape sequences could repaint a reviewer's card; bidirectional and invisible characters could hide words in it.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Return a stored or streamed text as a terminal may show it: what would act or hide is spelled out."""
    return _HIDDEN.sub(lambda found: _spelled(found[0]), text.replace("\r\n", "\n"))


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def flat(text: str, limit: int = 400) -> str:
    """Return a text on one line, cut to `limit` characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 2]} …"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command end as one does that nobody reads: rich would end it as if it had failed."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Unprinted(Exception):
    """What was done could not be printed; the message says both."""


@contextmanager
def after(done: str) -> Iterator[None]:
    """Print what came of something that is done; where there is no room to, say that it is done.

    Raises:
        Unprinted: the output could not be written, and not because nobody reads it.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unprinted(f"{done}, but the output cannot be written: {error.strerror}") from error


def drop_output() -> None:
    """Let go of what stdout still holds, so that nothing tries to write it at the end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def console(*, stderr: bool = False) -> Console:
    """Return a console for stdout, or stderr; colours only on a terminal, and none with NO_COLOR."""
    return _Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def on_terminal() -> bool:
    """Whether somebody sits there: both ends are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def width(target: Console) -> int:
    """Return how wide prose and cards are on this console."""
    return min(target.width, WIDEST)


def say(text: str | Text = "", style: str = "") -> None:
    """Print one line of a command's result."""
    _print(console(), text, style)


def indented(text: str, by: int, *, style: str = "") -> None:
    """Print text of several lines with a margin on its left."""
    target = console()
    if target.is_terminal:
        target.print(Padding(Text(text, style=style), (0, 0, 0, by)), width=width(target))
    else:
        say("\n".join(f"{' ' * by}{line}" for line in text.splitlines()))


def note(text: str | Text, style: str = "dim") -> None:
    """Print what a person should know: on stdout for a terminal, on stderr where the result is piped."""
    _print(console(stderr=not sys.stdout.isatty()), text, style)


def complain(message: str) -> None:
    """Say on stderr what went wrong."""
    line = Text.assemble(("Error: ", "bold red"), flat(message, 1000))
    _print(console(stderr=True), line, "")


def _print(target: Console, text: str | Text, style: str) -> None:
    line = text if isinstance(text, Text) else Text(visible(text))
    # A terminal gets words that are not torn; a pipe gets whole lines, and so does whoever copies a command.
    whole = not target.is_terminal or "`learngate " in line.plain
    target.print(line, style=style or None, soft_wrap=whole, overflow=None if whole else "fold")


@contextmanager
def busy(what: str) -> Iterator[Callable[[str], None]]:
    """Show that something takes a while, on a terminal only; call what it gives with news of it."""
    target = console(stderr=True)
    if not (target.is_terminal and sys.stderr.isatty()):
        yield lambda _: None
        return
    with target.status(Text(what, style="dim"), spinner_style=ACCENT) as status:
        yield lambda news: status.update(Text(news, style="dim"))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, cut: Sequence[str] = (), wrap: Sequence[str] = ()
) -> None:
    """Print rows below each other; in a pipe whole, on a terminal with some columns made to fit.

    Those in `cut` end with an ellipsis where there is no room, those in `wrap` go on below. A column of
    numbers is set to the right.
    """
    target = console()
    cells = [list(columns), *([flat(str(cell), 10_000) for cell in row] for row in rows)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(columns))]
    if sys.stdout.isatty():
        flexible = [i for i, name in enumerate(columns) if name in cut or name in wrap]
        _fit(widths, flexible, target.width)
    right = [all(isinstance(row[i], int) for row in rows) for i in range(len(columns))]
    for number, row in enumerate(cells):
        parts = [
            _lines(cell, widths[i], target, wraps=columns[i] in wrap, right=right[i]) for i, cell in enumerate(row)
        ]
        for line in range(max(len(part) for part in parts)):
            padded = (part[line] if line < len(part) else " " * widths[i] for i, part in enumerate(parts))
            shown = Text("  ".join(padded).rstrip(), style="" if number else "dim")
            target.print(shown, soft_wrap=True)


def _fit(widths: list[int], flexible: Sequence[int], room: int) -> None:
    """Narrow the flexible columns until a row fits, the widest first, and none below ten."""
    over = sum(widths) + 2 * (len(widths) - 1) - room
    while over > 0 and flexible:
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] <= 10:
            return
        widths[widest] -= 1
        over -= 1


def _lines(cell: str, size: int, target: Console, *, wraps: bool, right: bool) -> list[str]:
    text = Text(cell)
    if wraps and cell_len(cell) > size:
        return [set_cell_size(line.plain, size) for line in text.wrap(target, size)]
    text.truncate(size, overflow="ellipsis")
    padding = " " * (size - text.cell_len)
    return [padding + text.plain if right else text.plain + padding]


def fields(pairs: Sequence[tuple[str, str]], *, indent: int = 0) -> None:
    """Print names and values, the values below each other; a pair without a value is left out."""
    pairs = [(name, value) for name, value in pairs if value]
    longest = max((cell_len(name) for name, _ in pairs), default=0)
    target = console()
    for name, value in pairs:
        label = f"{' ' * indent}{name}{' ' * (longest - cell_len(name) + 2)}"
        if not sys.stdout.isatty():
            say(f"{label}{flat(value, 100_000)}")
            continue
        grid = Table.grid(padding=0)
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold", max_width=max(width(target) - cell_len(label), 20))
        grid.add_row(Text(label), Text(visible(value)))
        target.print(grid)


def moment(at: datetime | None) -> str:
    """Return a time as a person reads it, in the time of this machine."""
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M}"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def plain(value: Any) -> Any:
    """Return a record as JSON takes it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def say_json(value: Any, *, lines: bool = False) -> None:
    """Print one JSON document, or one line of a stream of them."""
    encoding = (sys.stdout.encoding or "utf-8").lower().replace("-", "")
    text = json.dumps(plain(value), ensure_ascii=encoding != "utf8", indent=None if lines else 2)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
