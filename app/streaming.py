"""How a turn looks while it happens: what was recalled, then the answer as it comes."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.status import Status
from rich.text import Text

from learngate.app.screen import ACCENT, console, counted, flat, note, visible, width

_TOKENS = re.compile(r"\n|[^\S\n]+|[^\s]+")


class Flowing:
    """Writes text that comes in pieces, indented, and wrapped between words."""

    def __init__(self, indent: int, columns: int) -> None:
        self._indent, self._room = indent, max(columns - indent, 20)
        self._column = -1  # before the first character of a line
        self._gap = ""
        self._word = ""

    def write(self, piece: str) -> None:
        """Take a piece; its last word waits, because the next piece may go on with it."""
        for token in _TOKENS.findall(visible(piece.replace("\r", "").replace("\t", "    "))):
            if token.isspace():
                self._flush()
                if token == "\n":
                    self._break()
                else:
                    self._gap += token
                continue
            for character in token:
                if cell_len(character) > 1:  # scripts without spaces break anywhere
                    self._flush()
                self._word += character
        sys.stdout.flush()

    def end(self) -> None:
        """Write what still waits, and end the line."""
        self._flush()
        if self._column >= 0:
            self._break()
        sys.stdout.flush()

    def _flush(self) -> None:
        if not self._word:
            return
        if self._column > 0 and self._column + cell_len(self._gap + self._word) > self._room:
            self._break()
            self._gap = ""
        self._put(self._gap)
        while cell_len(self._word) > self._room:
            self._put(self._word[: self._room])
            self._word = self._word[self._room :]
            self._break()
        self._put(self._word)
        self._gap = self._word = ""

    def _put(self, text: str) -> None:
        if not text:
            return
        if self._column < 0:
            sys.stdout.write(" " * self._indent)
            self._column = 0
        sys.stdout.write(text)
        self._column += cell_len(text)

    def _break(self) -> None:
        sys.stdout.write("\n")
        self._column, self._gap = -1, ""


class OnTerminal:
    """A turn on a terminal: a spinner until words come, what was recalled, the words."""

    def __init__(self, indent: int, *, explain: bool) -> None:
        self._indent, self._explain = indent, explain
        self._flowing = Flowing(indent, width(console()))
        self._status: Status | None = None

    def waits(self, what: str) -> None:
        """Show that something takes a while."""
        self.quiet()
        line = Text(what, style="dim")
        self._status = console().status(line, spinner_style=ACCENT)
        self._status.start()

    def quiet(self) -> None:
        """Take the spinner away, and end a line that an answer left open."""
        self._flowing.end()
        if self._status is not None:
            self._status.stop()
            self._status = None

    def recalled(self, recall: dict[str, Any], milliseconds: float) -> None:
        """Show what was recalled."""
        self.quiet()
        note(f"{' ' * self._indent}{recall_words(recall)} · {milliseconds:.0f} ms")
        if self._explain:
            explain_rows(recall, self._indent)
        self.waits("answering … Ctrl-C stops it")

    def piece(self, text: str) -> None:
        """Show a piece of the answer."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        self._flowing.write(text)

    def tool(self, name: str) -> None:
        """Show that a tool runs."""
        self.quiet()
        note(f"{' ' * self._indent}asks {name}")
        self.waits("answering … Ctrl-C stops it")

    def answered(self) -> None:
        """End the answer; what is worth keeping is looked for next."""
        self.quiet()
        self.waits("looking for what is worth keeping …")


class InPipe:
    """A turn in a pipe: the answer, word for word, and what was recalled on stderr."""

    def __init__(self, *, explain: bool) -> None:
        self._explain = explain
        self._open = False

    def waits(self, what: str) -> None:
        """Show nothing: nobody watches."""

    def quiet(self) -> None:
        """End a line that an answer left open."""
        if self._open:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._open = False

    def recalled(self, recall: dict[str, Any], milliseconds: float) -> None:
        """Say on stderr what was recalled."""
        note(f"{recall_words(recall)} · {milliseconds:.0f} ms")
        if self._explain:
            explain_rows(recall, 0)

    def piece(self, text: str) -> None:
        """Write a piece of the answer."""
        sys.stdout.write(text)
        sys.stdout.flush()
        self._open = not text.endswith("\n")

    def tool(self, name: str) -> None:
        """Say on stderr that a tool runs."""
        note(f"asks {name}")

    def answered(self) -> None:
        """End the answer."""
        self.quiet()


class Silent:
    """A turn of which only the result is told, as JSON."""

    def waits(self, what: str) -> None:
        """Show nothing."""

    def quiet(self) -> None:
        """Show nothing."""

    def recalled(self, recall: dict[str, Any], milliseconds: float) -> None:
        """Show nothing."""

    def piece(self, text: str) -> None:
        """Show nothing."""

    def tool(self, name: str) -> None:
        """Show nothing."""

    def answered(self) -> None:
        """Show nothing."""


def recall_words(recall: Mapping[str, Any]) -> str:
    """Return in words how much was put before the model."""

    def shown(kind: str) -> int:
        return sum(1 for item in recall.get(kind, []) if item["shown"])

    return (
        f"recalled {counted(shown('history'), 'turn')} · {counted(shown('memories'), 'memory', 'memories')}"
        f" · {counted(shown('learnings'), 'learning')}"
        # Both kinds have the same reason as a rule.
        + "".join(f" · {flat(note)}" for note in dict.fromkeys(recall.get("notes", {}).values()))
    )


def explain_rows(recall: Mapping[str, Any], indent: int) -> None:
    """Show each recalled row: what it is, its score, why it was found, its tokens and its text; then all in all."""
    from learngate.graph import Budgets
    from learngate.nodes.prompts import tokens_of

    items = [item for kind in ("history", "memories", "learnings") for item in recall.get(kind, [])]
    rows = [
        (
            f"{item['kind']} {flat(str(item['id']))[:8]}",
            f"{item['score']:.2f}" if "score" in item else "",
            _why(item),
            f"{tokens_of(item)} tokens" if item["shown"] else "",
            f"{item['title']}: {item['text']}" if item.get("title") else item["text"],
        )
        for item in items
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    target = console(stderr=not sys.stdout.isatty())
    for row in rows:
        cells = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False) if size)
        line = Text(f"{' ' * indent}{cells}  {flat(row[4])}", style="dim")
        if target.is_terminal:
            line.truncate(width(target), overflow="ellipsis")
        target.print(line, soft_wrap=True)
    if "query" in recall:
        said = f"learnings were searched for with the message before: {flat(recall['query'])}"
        target.print(Text(f"{' ' * indent}{said}", style="dim"), soft_wrap=True)
    if items:
        budgets = Budgets()
        rooms = {
            "history": budgets.history_tokens,
            "memories": budgets.memory_tokens,
            "learnings": budgets.learning_tokens,
        }
        spent = (f"{kind} {_spent(recall.get(kind, []))} of {room:,} tokens" for kind, room in rooms.items())
        target.print(Text(f"{' ' * indent}{' · '.join(spent)}", style="dim"), soft_wrap=True)


def _spent(items: Sequence[Any]) -> str:
    from learngate.nodes.prompts import tokens_of

    cut = sum(not item["shown"] for item in items)
    return f"{sum(tokens_of(item) for item in items):,}{f' ({cut} cut)' if cut else ''}"


def _why(item: Mapping[str, Any]) -> str:
    if not item["shown"]:
        return "cut"
    return str(item.get("why") or {"turn": "recent", "memory": "fits"}.get(item["kind"], ""))
