"""`learngate review`: the inbox of proposals, and the decisions on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from learngate.app.cards import CHOICES, as_json, ask_decision, card_lines, proposal_card, verdict
from learngate.app.opening import chat_again, db_option, opened, person, suggested
from learngate.app.options import DEFAULT, LARGEST, Db, Json, Namespace, Note, Reviewer, User
from learngate.app.screen import (
    ACCENT,
    complain,
    console,
    counted,
    fields,
    moment,
    note,
    on_terminal,
    say,
    say_json,
    table,
)
from learngate.app.status import DONE

if TYPE_CHECKING:
    from learngate.stores import Decision, Memory, Proposal


def review(
    ctx: typer.Context,
    proposal: Annotated[
        int | None, typer.Argument(metavar="ID", min=1, max=LARGEST, help="One proposal.", show_default=False)
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Approve proposal ID.")] = False,
    reject: Annotated[
        str | None, typer.Option("--reject", metavar="NOTE", help="Reject proposal ID, and say why.")
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Approve proposal ID in other words:")] = False,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="its title,")] = None,
    insight: Annotated[str | None, typer.Option("--insight", metavar="TEXT", help="its insight,")] = None,
    applies_when: Annotated[
        str | None, typer.Option("--applies-when", metavar="TEXT", help="when it applies.")
    ] = None,
    remark: Note = None,
    only_list: Annotated[bool, typer.Option("--list", help="List what waits; decide nothing.")] = False,
    namespace: Namespace = DEFAULT,
    reviewer: Reviewer = None,
    user: User = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Decide what is learned.

    Walk through the proposals that wait, or decide one by its ID. With no terminal, and with --list or
    --json, they are listed.
    """
    words = {"title": title, "insight": insight, "applies_when": applies_when}
    given = {name: text for name, text in words.items() if text is not None}
    _check_usage(proposal, approve=approve, reject=reject, edit=edit, words=given)
    with opened(db, there=True) as memory:
        inbox = Inbox(memory, namespace=namespace, reviewer=person(reviewer, user), db=db_option(ctx))
        if proposal is None:
            status = inbox.show(json=json) if json or only_list or not on_terminal() else inbox.walk()
        elif approve or edit or reject is not None:
            status = inbox.decide(proposal, _decision(reject, edit=edit, words=given, remark=remark), json=json)
        else:
            status = inbox.one(proposal, json=json, asks=on_terminal() and not json and not only_list)
    raise typer.Exit(status)


def _check_usage(
    proposal: int | None, *, approve: bool, reject: str | None, edit: bool, words: dict[str, str]
) -> None:
    chosen = [
        name for name, on in (("--approve", approve), ("--reject", reject is not None), ("--edit", edit)) if on
    ]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other: a proposal is decided once")
    if chosen and proposal is None:
        raise typer.BadParameter(f"{chosen[0]} needs the ID of a proposal: learngate review ID {chosen[0]}")
    if edit and not words:
        raise typer.BadParameter("--edit needs the new words: --title, --insight or --applies-when")
    if words and not edit:
        raise typer.BadParameter(f"--{next(iter(words)).replace('_', '-')} belongs to --edit: add it")


def _decision(reject: str | None, *, edit: bool, words: dict[str, str], remark: str | None) -> Decision:
    from learngate.stores import Decision

    if edit:
        return Decision.edit(**words, note=remark)
    return Decision.approve(remark) if reject is None else Decision.reject(reject or remark)


class Inbox:
    """The proposals of a namespace, before one reviewer."""

    def __init__(self, memory: Memory, *, namespace: str, reviewer: str, db: str) -> None:
        self._memory, self._namespace, self._reviewer, self._db = memory, namespace, reviewer, db
        self._decided: dict[str, Proposal] = {}

    def show(self, *, json: bool) -> int:
        """List what waits."""
        waiting = self._memory.learnings.pending(namespace=self._namespace)
        if json:
            say_json([as_json(self._memory, one) for one in waiting])
            return DONE
        if not waiting:
            self._nothing()
            return DONE
        rows = [(one.id, one.title, one.insight, one.proposer, moment(one.created_at)) for one in waiting]
        table(("id", "title", "insight", "proposer", "since"), rows, cut=("title", "insight"))
        first = suggested("review", str(waiting[0].id), "--approve", db=self._db)
        note(f"decide one with {first}, or --reject NOTE, or --edit")
        return DONE

    def walk(self) -> int:
        """Show one card after the other and take the decisions."""
        waiting = self._memory.learnings.pending(namespace=self._namespace)
        if not waiting:
            self._nothing()
            return DONE
        left = 0
        for number, proposal in enumerate(waiting, start=1):
            try:
                left += not self._ask(proposal, f"{number} of {len(waiting)}")
            except (EOFError, KeyboardInterrupt):
                note("")
                left += len(waiting) - number + 1
                break
        self._go_on()
        if left:
            note(f"{counted(left, 'proposal')} of {self._namespace} still {'wait' if left > 1 else 'waits'}")
        return DONE

    def one(self, number: int, *, json: bool, asks: bool) -> int:
        """Show one proposal, whatever its status; ask for a decision where there is a terminal to ask on."""
        proposal = self._memory.learnings.proposal(number)
        taken = None if proposal.status == "pending" else self._memory.learnings.decision(number)
        if json:
            say_json(as_json(self._memory, proposal) | {"decision": taken})
        elif asks and taken is None:
            try:
                self._ask(proposal, "")
            except (EOFError, KeyboardInterrupt):
                note("left for later")
            self._go_on()
        elif asks:
            target = console()
            target.print(proposal_card(self._memory, proposal, target, choices=""))
        else:
            fields(list(card_lines(self._memory, proposal)))
        if taken is not None and not json:
            say(verdict(taken))
        return DONE

    def decide(self, number: int, decision: Decision, *, json: bool) -> int:
        """Decide one proposal with no questions asked."""
        self._memory.learnings.decide(number, decision, reviewer=self._reviewer)
        taken = self._memory.learnings.decision(number)
        if json:
            say_json(as_json(self._memory, self._memory.learnings.proposal(number)) | {"decision": taken})
            return DONE
        say(verdict(taken))
        self._note_decided(self._memory.learnings.proposal(number))
        self._go_on()
        return DONE

    def _ask(self, proposal: Proposal, place: str) -> bool:
        """Show a card and take a decision; whether the proposal is decided now."""
        from learngate.stores import AlreadyDecided, Conflict, InvalidInput

        target = console()
        target.print()
        choices = f"{CHOICES}  [q]uit"
        target.print(proposal_card(self._memory, proposal, target, choices=choices, place=place))
        while True:
            decision = ask_decision(proposal, may_quit=True)
            if decision is None:
                return False
            seen = (proposal.title, proposal.insight, proposal.applies_when)
            try:
                self._memory.learnings.decide(proposal.id, decision, reviewer=self._reviewer, seen=seen)
            except AlreadyDecided as early:
                note(Text(f"  decided meanwhile: {verdict(early.decision)}"), style="")
                return True
            except (InvalidInput, Conflict) as problem:
                complain(str(problem))
                continue
            note(Text(f"  {verdict(self._memory.learnings.decision(proposal.id))}", style=ACCENT), style="")
            self._note_decided(proposal)
            return True

    def _note_decided(self, proposal: Proposal) -> None:
        if proposal.session_id is not None:
            self._decided[proposal.session_id] = proposal

    def _go_on(self) -> None:
        """Say how the sessions go on that may wait at the gate for what was decided here."""
        for session_id, proposal in self._decided.items():
            again = chat_again(session_id, proposal.user_id, proposal.namespace, db=self._db)
            note(f"if session {session_id} waits at the gate, it goes on with {again}")

    def _nothing(self) -> None:
        elsewhere = self._memory.learnings.waiting()
        say(f"nothing waits in {self._namespace}")
        for namespace, number in elsewhere.items():
            there = suggested("review", "--namespace", namespace, db=self._db)
            note(f"{counted(number, 'proposal')} in {namespace}: {there}")
