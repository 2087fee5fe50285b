"""The story of the three memories, on real stores: what a newcomer sees first."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learngate.app.cards import CHOICES, ask_decision, proposal_card, verdict
from learngate.app.conversation import Conversation, Said
from learngate.app.market import market_data
from learngate.app.opening import choose_model, model_words
from learngate.app.screen import ACCENT, busy, complain, console, counted, on_terminal, width
from learngate.app.streaming import Flowing, recall_words
from learngate.graph import Context
from learngate.graph.models import resolve_model
from learngate.stores import Decision, Learning, Memory, Proposal, ProposalDraft, open_memory

NAMESPACE = "finance"
MARGIN = 6
RULE = "When comparing ETFs, check both expense ratio and tracking error."
QUESTION = "Compare the Global Chips ETF with the AI Leaders ETF for me."
BY_HAND = ProposalDraft("Compare ETFs on cost and tracking", RULE, applies_when="comparing ETFs")
BAD = ProposalDraft(
    title="Take the ETF with more holdings",
    insight="When comparing ETFs, always take the one with more holdings.",
    applies_when="comparing ETFs",
)


class NoAnswerError(Exception):
    """The model did not answer; the story cannot go on."""


def run_demo(*, model: str | None, yes: bool) -> int:
    """Tell the story and return the exit status; with `yes`, or with no terminal, the gate approves by itself.

    The database is a temporary file that stays, so that the viewer can look into it afterwards.
    """
    name, no_key = choose_model(model)
    resolve_model(name)
    path = Path(tempfile.mkdtemp(prefix="learngate-demo-")) / "learngate.db"
    target = console()
    with open_memory(f"sqlite:///{path}") as memory:
        with busy("loading the embedder …"):
            memory.vectors.of_query("warm up")
        story = Story(target, memory, name, decide=not yes and on_terminal())
        target.print(Text("learngate demo", style="bold"))
        story.aside(f"model     {model_words(name, no_key=no_key)}", margin=0)
        target.print(Text(f"database  {path}", style="dim"), soft_wrap=True)
        try:
            story.session_memory()
            story.user_memory()
            if story.learned_memory() is not None:
                story.taking_it_back()
        except NoAnswerError as error:
            complain(f"{name} did not answer: {error}")
            return 1
        story.rows()
        story.closing(path, learned=bool(memory.learnings.list(namespace=NAMESPACE, status=None)))
    return 0


@dataclass(slots=True)
class Story:
    """The demo's chapters, told on one console over one memory."""

    console: Console
    memory: Memory
    model: str
    decide: bool

    def session_memory(self) -> None:
        """Tell how a conversation is remembered."""
        self._chapter("1 · Session memory", "what was said in this conversation is there at the next message")
        self._ask("ana", "brief", "Quick investment brief on NVIDIA")
        self._ask("ana", "brief", "Compare that to Tesla")
        self._ask("ana", "brief", "Which looks like the better investment?")

    def user_memory(self) -> None:
        """Tell how facts about a user are kept for every later conversation."""
        self._chapter("2 · User memory", "what a user tells about themselves is there in every later one")
        self._ask("ana", "hello", "I'm interested in AI stocks, my risk tolerance is moderate.")
        for memory in reversed(self.memory.users.list("ana")):
            self.aside(f"stored as memory {memory.id}: {memory.text}")
        self.aside("a new session, days later:")
        self._ask("ana", "advice", "What stocks would you recommend for me?")

    def learned_memory(self) -> Learning | None:
        """Tell how an insight is proposed, decided by a human, and used for everyone."""
        self._chapter("3 · Learned memory", "what helps everyone is proposed, and saved when a human says yes")
        learning = self._gate(self._ask("ana", "etfs", RULE))
        if learning is None:
            self.aside("nothing was learned, so nothing changes for the next user:")
            self._ask("ben", "funds", QUESTION)
            return None
        self.aside("another user, in a new session of their own:")
        answered = self._ask("ben", "funds", QUESTION)
        reached = "reached ben, who never met ana" if _recalled(answered, learning) else "did not fit"
        self.aside(f"learning {learning.id} {reached}")
        return learning

    def taking_it_back(self) -> None:
        """Tell how a bad learning is found, retired, and gone from the next answer."""
        self._chapter("4 · Taking it back", "a learning is a row: retire it, and the next answer is free of it")
        bad = self.memory.learnings.add(BAD, namespace=NAMESPACE, actor="someone in a hurry")
        self.aside(f"somebody in a hurry approved learning {bad.id}: “{bad.insight}”")
        before = self._ask("ben", "again", QUESTION)
        self.memory.learnings.retire(bad.id, actor="ana", note="More holdings are no merit in themselves.")
        self.aside(f"ana retires learning {bad.id}; its history stays. The same question, once more:")
        after = self._ask("ben", "once-more", QUESTION)
        was, still = ("yes" if _recalled(said, bad) else "no" for said in (before, after))
        self.aside(f"learning {bad.id} recalled before: {was} · after: {still}")

    def rows(self) -> None:
        """Show what the story has left in the database."""
        self._chapter("5 · The rows it made", "")
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for column in ("learning", "rev", "change", "by"):
            table.add_column(column, no_wrap=True)
        table.add_column("what it says", overflow="fold")
        for learning in reversed(self.memory.learnings.list(namespace=NAMESPACE, status=None)):
            for row in self.memory.learnings.history(learning.id):
                table.add_row(str(learning.id), str(row.revision), row.change, row.reviewer, row.insight)
        self.console.print(table)
        for user in ("ana", "ben"):
            turns = sum(session.turns for session in self.memory.sessions.list(user_id=user))
            kept = counted(len(self.memory.users.list(user)), "memory", "memories")
            self.aside(f"{user}: {counted(turns, 'turn')}, {kept}", margin=0)

    def closing(self, path: Path, *, learned: bool) -> None:
        """Say where to go next."""
        command = Path(sys.prefix) / "bin" / "learngate"
        here = f"--db {path}"
        self._chapter("6 · Where to go next", "")
        waits = ("the inbox", f"{_short(command)} review --namespace {NAMESPACE} {here}")
        learnings = (
            ("its learnings", f"{_short(command)} learnings list --namespace {NAMESPACE} {here}"),
            ("their history", f"{_short(command)} learnings history 1 {here}"),
        )
        for what, how in (
            *(learnings if learned else (waits,)),
            ("go on talking", f"{_short(command)} chat --user ana --namespace {NAMESPACE} {here}"),
            ("embed it", "README.md, “Embed it”"),
        ):
            self.console.print(Text.assemble((f"{what:<15}", "dim"), how), soft_wrap=True)

    def aside(self, text: str, *, margin: int = MARGIN) -> None:
        """Print a line of the narrator's."""
        self.console.print(Padding(Text(text, style="dim"), (0, 0, 0, margin), expand=False))

    def recalled(self, recall: dict[str, Any], milliseconds: float) -> None:
        """Show what was recalled, before the answer."""
        self.aside(f"{recall_words(recall)} · {milliseconds:.0f} ms")

    def tool(self, name: str) -> None:
        """Show that the model asks for a tool."""
        self.aside(f"asks {name}")

    def _ask(self, user: str, session: str, text: str) -> Said:
        self.console.print(Text.assemble((f"{user} ▸ ", "bold"), text))
        conversation = self._conversation(user, session)
        try:
            said = conversation.say(text, View(self))
        finally:
            conversation.close()
        self.console.print()
        if said.error is not None:
            raise NoAnswerError(str(said.error)) from said.error
        return said

    def _conversation(self, user: str, session: str) -> Conversation:
        with busy(f"starting {self.model} …"):
            return Conversation(
                self.memory,
                model=self.model,
                session_id=f"{user}-{session}",
                context=Context(user_id=user, namespace=NAMESPACE),
                tools=[market_data],
            )

    def _gate(self, said: Said) -> Learning | None:
        """Let the viewer decide what was proposed, or decide and say so; a model may have proposed nothing."""
        learnings = self.memory.learnings
        if said.asks and said.proposal is not None:
            proposal = learnings.proposal(said.proposal["id"])
        else:
            self.aside("the model proposed nothing this time, so the rule is proposed by hand")
            proposal = learnings.propose(BY_HAND, namespace=NAMESPACE, proposer="demo", user_id="ana")
        choices = CHOICES if self.decide else ""
        self.console.print(proposal_card(self.memory, proposal, self.console, choices=choices))
        while learnings.proposal(proposal.id).status == "pending":
            decision = self._decision(proposal)
            if decision is None:
                return None
            problem = self._take(decision, proposal, paused=said.asks)
            if problem:
                complain(problem)
        taken = learnings.decision(proposal.id)
        self.console.print(Text(f"▸ {verdict(taken)}", style=ACCENT))
        self.console.print()
        return None if taken.learning_id is None else learnings.get(taken.learning_id)

    def _take(self, decision: Decision, proposal: Proposal, *, paused: bool) -> str | None:
        """Give a decision its effect, through the run that waits for it; return why it could not have one."""
        if not paused:
            self.memory.learnings.decide(proposal.id, decision, reviewer="ana")
            return None
        conversation = self._conversation("ana", "etfs")
        try:
            return conversation.answer(decision, View(self)).problem
        finally:
            conversation.close()

    def _decision(self, proposal: Proposal) -> Decision | None:
        if not self.decide:
            self.aside("nobody was asked (--yes, or no terminal): the demo approves it by itself", margin=0)
            return Decision.approve()
        try:
            return ask_decision(proposal)
        except (EOFError, KeyboardInterrupt):
            self.console.print()
            self.aside("left for later: it waits in the inbox", margin=0)
            return None

    def _chapter(self, title: str, line: str) -> None:
        self.console.print()
        self.console.print(Text.assemble((title, f"bold {ACCENT}"), (f"  {line}" if line else "", "dim")))
        self.console.print()


class View:
    """One turn of the story as it happens; all of it on stdout, piped or not."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._flowing = Flowing(MARGIN, width(story.console))

    def recalled(self, recall: dict[str, Any], milliseconds: float) -> None:
        """Show what was recalled."""
        self._story.recalled(recall, milliseconds)

    def piece(self, text: str) -> None:
        """Show a piece of the answer."""
        self._flowing.write(text)

    def tool(self, name: str) -> None:
        """Show that a tool runs."""
        self._flowing.end()
        self._story.tool(name)

    def answered(self) -> None:
        """End the answer."""
        self._flowing.end()


def _recalled(said: Said, learning: Learning) -> bool:
    return any(item["id"] == learning.id and item["shown"] for item in said.recall["learnings"])


def _short(command: Path) -> str:
    """Return a command as it can be typed here."""
    try:
        return str(command.relative_to(Path.cwd()))
    except ValueError:
        return "learngate"
