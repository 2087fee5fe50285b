"""What a reviewer sees of a proposal, and how they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from learngate.app.lines import ask_line, has_prefill
from learngate.app.screen import ACCENT, flat, moment, note, plain, visible, width

if TYPE_CHECKING:
    from learngate.stores import Decision, DecisionRecord, Excerpt, LearningHit, Memory, Proposal

NEAR = 0.35
"""Cosine from which an existing learning is worth a reviewer's look: the graph's own, without importing it."""

CHOICES = "[a]pprove  [e]dit  [r]eject with a note  [l]ater"
_KINDS = {"new": "proposed learning", "replace": "proposed change", "merge": "proposed merge", "retire": "retire?"}
DECIDED = {"approve": "approved", "edit": "approved in other words", "reject": "rejected"}


def nearest(memory: Memory, proposal: Proposal) -> list[LearningHit]:
    """Return the existing learnings that are near to a proposal."""
    text = f"{proposal.title}\n{proposal.insight}"
    hits = memory.learnings.search(text, namespace=proposal.namespace, k=3, floor=False)
    return [hit for hit in hits if hit.dense >= NEAR]


def proposal_card(
    memory: Memory,
    proposal: Proposal,
    target: Console,
    *,
    choices: str = CHOICES,
    here: tuple[str, str] | None = None,
    place: str = "",
) -> RenderableType:
    """Return a proposal as its reviewer sees it: its exact text, and everything that speaks for or against it.

    `choices` stands in the card's lower edge; `here` are the session and the turn that the reviewer is in,
    `place` says which of how many it is.
    """
    words: list[RenderableType] = [Text(visible(proposal.title), style="bold"), Text(visible(proposal.insight))]
    about = Table.grid(padding=(0, 2, 0, 0))
    about.add_column(no_wrap=True, style="dim")
    about.add_column(overflow="fold")
    for name, value in _about(memory, proposal, here):
        about.add_row(name, Text(visible(value)))
    fits = cell_len(choices) + 6 <= width(target)
    card = Panel(
        Group(*words, Text(), about),
        box=ROUNDED,
        border_style=ACCENT,
        title=Text(f"{_KINDS[proposal.kind]} · {visible(proposal.namespace)}{f' · {place}' if place else ''}"),
        title_align="left",
        subtitle=Text(choices) if choices and fits else None,
        subtitle_align="left",
        width=width(target),
        padding=(0, 1),
    )
    return card if fits else Group(card, Text(choices))


def card_lines(memory: Memory, proposal: Proposal) -> Iterator[tuple[str, str]]:
    """Yield a proposal as names and values, for a pipe."""
    yield "proposal", f"{proposal.id} ({proposal.status}), {_KINDS[proposal.kind]} of {proposal.namespace}"
    yield "title", proposal.title
    yield "insight", proposal.insight
    yield from _about(memory, proposal, None)


def verdict(taken: DecisionRecord) -> str:
    """Return a decision in words, with what came of it."""
    words = f"{DECIDED[taken.type]} by {visible(taken.reviewer)}"
    if taken.note:
        words += f" · “{visible(taken.note)}”"
    if taken.learning_id is not None:
        words += f" · learning {taken.learning_id}"
    return words


def as_json(memory: Memory, proposal: Proposal) -> dict[str, Any]:
    """Return a proposal with its nearest learnings, for a program."""
    near = [
        {"id": hit.learning.id, "title": hit.learning.title, "similarity": round(hit.dense, 2)}
        for hit in nearest(memory, proposal)
    ]
    found: dict[str, Any] = plain(proposal)
    return found | {"nearest": near}


def _about(memory: Memory, proposal: Proposal, here: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
    if proposal.applies_when:
        yield "applies when", proposal.applies_when
    if proposal.target_id is not None:
        now = memory.learnings.get(proposal.target_id)
        yield "changes", f"learning {now.id}, revision {proposal.base_revision}, which says: {now.insight}"
    if proposal.rationale:
        yield "because", proposal.rationale
    for excerpt in proposal.excerpts:
        yield "rests on", _quoted(excerpt, here)
    yield from _nearest_lines(nearest(memory, proposal))
    if proposal.taint:
        yield "beware", proposal.taint
    origin = "" if proposal.session_id in {None, here and here[0]} else f" · session {proposal.session_id}"
    yield "proposer", f"{proposal.proposer}{origin} · {moment(proposal.created_at)}"


def _nearest_lines(hits: Sequence[LearningHit]) -> Iterator[tuple[str, str]]:
    if not hits:
        yield "nearest", f"none above {NEAR}"
    for number, hit in enumerate(hits):
        learning = hit.learning
        yield (
            "" if number else "nearest",
            f"{hit.dense:.2f}  learning {learning.id}, {flat(learning.title, 60)}: {learning.insight}",
        )


def _quoted(excerpt: Excerpt, here: tuple[str, str] | None) -> str:
    who = excerpt.speaker or "somebody"
    where = f"{who}, this turn" if here == (excerpt.session_id, excerpt.turn_id) else who
    return f"{where}: “{excerpt.text}”"


def ask_decision(proposal: Proposal, *, may_quit: bool = False) -> Decision | None:
    """Ask for a decision on a proposal whose card was shown; `None` leaves it for later.

    Raises:
        EOFError: Ctrl-D, or `q` where `may_quit`.
        KeyboardInterrupt: Ctrl-C.
    """
    from learngate.stores import Decision

    letters = "a, e, r, l or q" if may_quit else "a, e, r or l"
    while True:
        word, _, rest = ask_line("▸ ").strip().partition(" ")
        match word.casefold():
            case "a" | "approve" | "y" | "yes":
                return Decision.approve(rest.strip() or None)
            case "r" | "reject" | "n" | "no":
                return Decision.reject(rest.strip() or ask_line("  why ▸ ").strip() or None)
            case "e" | "edit":
                edited = _ask_edit(proposal)
                if edited is not None:
                    return edited
                note("  nothing was changed")
            case "l" | "later":
                return None
            case "q" | "quit" if may_quit:
                raise EOFError
            case _:
                note(f"  {letters}: approve, edit, reject, later{', quit' if may_quit else ''}")


def _ask_edit(proposal: Proposal) -> Decision | None:
    """Ask for the new words; `None` where nothing is changed, or Ctrl-C takes the edit back."""
    from learngate.stores import Decision

    note("  change the text, or leave it as it is" if has_prefill() else "  an empty line keeps what is there")
    words: dict[str, str] = {}
    try:
        for name, before in (
            ("title", proposal.title),
            ("insight", proposal.insight),
            ("applies_when", proposal.applies_when),
        ):
            after = ask_line(f"  {name.replace('_', ' '):<12} ▸ ", prefill=before).strip()
            if after and after != before:
                words[name] = after
    except KeyboardInterrupt:
        note("")
        return None
    return Decision.edit(**words) if words else None
