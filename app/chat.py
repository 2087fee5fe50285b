"""`learngate chat`: talk to the agent, see what it recalls, and decide at the gate."""

from __future__ import annotations

import secrets
import sys
import threading
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.text import Text

from learngate.app.cards import as_json, ask_decision, proposal_card, verdict
from learngate.app.lines import ask_line, piped_lines
from learngate.app.opening import chat_again, choose_model, db_option, opened, person, suggested
from learngate.app.options import DEFAULT, Db, Embedder, Json, Model, Namespace, Reviewer, Session, User
from learngate.app.screen import (
    ACCENT,
    busy,
    complain,
    console,
    counted,
    flat,
    note,
    on_terminal,
    plain,
    say_json,
)
from learngate.app.status import DONE, REFUSED, STOPPED, exit_status
from learngate.app.streaming import InPipe, OnTerminal, Silent

if TYPE_CHECKING:
    from learngate.app.conversation import Conversation, Said
    from learngate.stores import Decision, DecisionRecord, Memory, Proposal

    View = OnTerminal | InPipe | Silent


WORDS = "type a message, or /quit (or Ctrl-D) to end; what begins with a slash is not sent to the agent"


def chat(
    ctx: typer.Context,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="Answer this message, and exit.")
    ] = None,
    user: User = None,
    session: Session = None,
    namespace: Namespace = DEFAULT,
    model: Model = None,
    embedder: Embedder = None,
    reviewer: Reviewer = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show each row that was recalled, and why.")] = False,
    json: Json = False,
    db: Db = None,
) -> None:
    """Talk to the agent; decide at the gate what it learns.

    With --message, or with messages piped in (one a line), it answers and exits; a proposal then waits in the
    inbox: `learngate review`. With --json each turn is one line of JSON on stdout, an error too.
    """
    if json and message is None and sys.stdin.isatty():
        raise typer.BadParameter("give it messages: --message TEXT, or one a line on stdin", param_hint="--json")
    with opened(db, embedder=embedder) as memory:
        _check(user=user, session=session, namespace=namespace)
        chosen, no_key = choose_model(model)
        with busy(f"starting {chosen} …"):
            from learngate.app.conversation import Conversation
            from learngate.graph import Context

            context = Context(user, namespace, person(reviewer, user))
            conversation = Conversation(memory, model=chosen, session_id=session or _new_session(), context=context)
        try:
            talk = Chat(
                memory,
                conversation,
                namespace=namespace,
                reviewer=person(reviewer, user),
                explain=explain,
                json=json,
                db=db_option(ctx),
            )
            if not json:
                talk.header(chosen, no_key=no_key, continued=session is not None)
            status = talk.once(message) if message is not None else talk.loop()
        finally:
            conversation.close()
    raise typer.Exit(status)


def _check(*, user: str | None, session: str | None, namespace: str) -> None:
    from learngate.stores.text import check_name, check_namespace

    for name, what in ((user, "--user"), (session, "--session")):
        if name is not None:
            check_name(name, what=what)
    check_namespace(namespace)


def _new_session() -> str:
    return f"{datetime.now():%Y%m%d-%H%M}-{secrets.token_hex(4)}"


class Chat:
    """A conversation with somebody at a terminal, or at the other end of a pipe."""

    def __init__(
        self,
        memory: Memory,
        conversation: Conversation,
        *,
        namespace: str,
        reviewer: str,
        explain: bool,
        json: bool,
        db: str,
    ) -> None:
        self._memory, self._conversation = memory, conversation
        self._db, self._reviewer = db, reviewer
        self._namespace, self._json = namespace, json
        self._prompt = f"{conversation.user_id} ▸ " if conversation.user_id else "▸ "
        self._indent = cell_len(self._prompt) if 4 <= cell_len(self._prompt) <= 12 else 4
        self._gate = on_terminal() and not json
        self._turns = 0
        self._left = False
        self._view: View = InPipe(explain=explain)
        if json:
            self._view = Silent()
        elif sys.stdout.isatty():
            self._view = OnTerminal(self._indent, explain=explain)

    def header(self, model: str, *, no_key: bool, continued: bool) -> None:
        """Say what answers, from which memory, and whose session this is."""
        conversation = self._conversation
        learned = counted(self._memory.learnings.count(namespace=self._namespace), "learning")
        answers = "offline stand-in" if model == "offline" else flat(model)
        about = f" · {answers} · {flat(self._memory.database.name)} · {learned}"
        note(Text.assemble(("learngate", f"bold {ACCENT}"), about), style="")
        if no_key:
            note("no key is set: GOOGLE_API_KEY, or --model, chooses a real model")
        whose = conversation.user_id or "nobody: nothing is remembered about a user (--user NAME)"
        note(f"session {conversation.session_id}{self._age() if continued else ''} · {whose}")
        if continued:
            self._resume()

    def once(self, message: str) -> int:
        """Answer one message."""
        return self._turn(message)

    def loop(self) -> int:
        """Answer until there is nothing more to answer."""
        if not self._gate:
            statuses = [self._turn(line) for line in piped_lines()]
            if not statuses:
                complain("no message came: give one with --message TEXT, or pipe them in, one a line")
                return 2
            return max(statuses)
        threading.Thread(target=self._warm_up, daemon=True).start()
        while not self._left:
            try:
                note("")
                text = ask_line(self._prompt)
            except (EOFError, KeyboardInterrupt):
                break
            if not text.strip():
                continue
            if text.startswith("/"):
                if not self._told_to(text.strip()):
                    break
                continue
            try:
                self._turn(text)
            except KeyboardInterrupt:  # while something was shown: the turn itself hears Ctrl-C on its own
                self._view.quiet()
                note("stopped")
        self._goodbye()
        return DONE

    def _told_to(self, word: str) -> bool:
        """Follow a word after a slash, which is none for the agent; whether the conversation goes on."""
        if word in {"/quit", "/exit"}:
            return False
        note(f"{'' if word == '/help' else f'{flat(word, 40)} is not known here: '}{WORDS}")
        return True

    def _warm_up(self) -> None:
        """Load the embedder and the index while the first message is typed."""
        from learngate.stores import LearngateError

        with suppress(LearngateError):  # the turn itself will meet it, and say so
            self._memory.learnings.search("learngate", namespace=self._namespace, k=1)

    # -- one turn ----------------------------------------------------------------------------------------

    def _turn(self, text: str) -> int:
        from learngate.stores import LearngateError

        self._view.waits("recalling …")
        try:
            said = self._conversation.say(text, self._view)
            self._turns += said.recorded
        except LearngateError as error:
            return self._failed(error, None)
        finally:
            self._view.quiet()
        if said.error is not None:
            return self._failed(said.error, said)
        if self._json:
            say_json(self._as_json(said), lines=True)
            return STOPPED if said.stopped else DONE
        self._kept(said)
        if said.stopped:
            self._stopped(said)
            return STOPPED
        if said.proposal is not None and said.proposal["status"] == "pending":
            self._proposed(said)
        return DONE

    def _failed(self, error: Exception, said: Said | None) -> int:
        status = exit_status(error)
        reason = str(error) if status is not None else f"the model did not answer: {_first_line(error)}"
        if said is not None and status is None:
            kept = "the turn was recorded" if said.recorded else "nothing of this turn was recorded"
            reason = f"{reason} · {kept}"
        complain(reason)
        if self._json:
            session = self._conversation.session_id
            say_json({"session": session, "error": reason, "recorded": bool(said and said.recorded)}, lines=True)
        return REFUSED if status is None else status

    def _stopped(self, said: Said) -> None:
        if said.turn is None:
            note("stopped · nothing of this turn was recorded")
        elif said.turn.reflection in {"pending", "failed"}:
            note("stopped · the turn was recorded; its reflection waits for `learngate reflect`")
        else:
            note("stopped · the turn was recorded")

    def _kept(self, said: Said) -> None:
        margin = " " * self._indent if isinstance(self._view, OnTerminal) else ""
        for change in said.changes:
            note(f"{margin}{change.change} · {flat(change.memory.text)} (memory {change.memory.id})")
        if said.turn is not None and said.turn.reflection == "failed":
            reason = flat(said.turn.error or "", 160)
            note(f"{margin}the reflection failed ({reason}): `learngate reflect` takes it again")

    def _as_json(self, said: Said) -> dict[str, Any]:
        proposal = said.proposal and self._memory.learnings.proposal(said.proposal["id"])
        return {
            "session": self._conversation.session_id,
            "turn": said.turn_id,
            "user": self._conversation.user_id,
            "namespace": self._namespace,
            "recorded": said.recorded,
            "stopped": said.stopped,
            "answer": said.answer,
            "recall": {kind: said.recall.get(kind, []) for kind in ("history", "memories", "learnings")}
            | {kind: said.recall[kind] for kind in ("notes", "query") if kind in said.recall},
            "remembered": [
                {"change": one.change, "id": one.memory.id, "text": one.memory.text} for one in said.changes
            ],
            "proposal": as_json(self._memory, proposal) if proposal else None,
            "reflection": said.turn.reflection if said.turn else None,
            "usage": plain(said.turn.usage) if said.turn else None,
        }

    # -- at the gate -------------------------------------------------------------------------------------

    def _proposed(self, said: Said) -> None:
        if said.asks and self._gate:
            self._ask(said)
        elif said.proposal is not None:
            number = said.proposal["id"]
            note(f"proposal {number} waits for a reviewer: {flat(said.proposal['title'], 60)}")
            note(f"decide it with {suggested('review', str(number), db=self._db)}")

    def _ask(self, said: Said) -> None:
        """Show the card and take the answer; one that cannot take effect is asked for again."""
        from learngate.stores import StoreError

        assert said.proposal is not None
        proposal = self._memory.learnings.proposal(said.proposal["id"])
        target = console()
        target.print()
        here = (self._conversation.session_id, said.turn_id)
        target.print(proposal_card(self._memory, proposal, target, here=here))
        decision: Decision | None = None
        try:
            while said.asks:
                if said.problem:
                    complain(said.problem)
                decision = self._answer(proposal)
                said = self._conversation.answer(decision, self._view)
        except StoreError as error:
            complain(str(error))
            decision = None
        if decision is None:
            note(f"  left for later · {suggested('review', str(proposal.id), db=self._db)}")
            return
        taken = self._memory.learnings.decision(proposal.id)
        mine = taken.type == decision.type and taken.reviewer == self._reviewer
        note(Text.assemble("  " if mine else "  decided meanwhile: ", self._verdict(taken)), style="")

    def _answer(self, proposal: Proposal) -> Decision | None:
        try:
            return ask_decision(proposal)
        except KeyboardInterrupt:
            note("")
        except EOFError:
            note("")
            self._left = True
        return None

    def _verdict(self, taken: DecisionRecord) -> Text:
        line = Text(verdict(taken), style=ACCENT)
        if taken.learning_id is not None:
            line.append(f" · {suggested('learnings', 'show', str(taken.learning_id), db=self._db)}", style="dim")
        return line

    def _resume(self) -> None:
        """Take up what the session left at the gate."""
        waiting = self._conversation.waiting()
        if waiting is None or waiting.proposal is None:
            left = self._memory.learnings.pending(session_id=self._conversation.session_id)
            if left:
                one = suggested("review", str(left[0].id), db=self._db)
                note(f"{counted(len(left), 'proposal')} of this session in the inbox: {one}")
            return
        number = waiting.proposal["id"]
        proposal = self._memory.learnings.proposal(number)
        if proposal.status != "pending":
            self._conversation.go_on(self._view)
            taken = self._memory.learnings.decision(number)
            note(Text.assemble(f"proposal {number} was ", self._verdict(taken)), style="")
        elif self._gate:
            note("this session waits at the gate:")
            self._ask(waiting)
        else:
            note(f"this session waits at the gate: {suggested('review', str(number), db=self._db)}")

    # -- coming and going --------------------------------------------------------------------------------

    def _age(self) -> str:
        from learngate.stores import NotFound

        try:
            turns = self._memory.sessions.show(self._conversation.session_id).turns
        except NotFound:
            return ", new"
        return f", {counted(turns, 'turn')}"

    def _goodbye(self) -> None:
        note("")
        if self._turns:
            whose = self._conversation.user_id
            again = chat_again(self._conversation.session_id, whose, self._namespace, db=self._db)
            note(f"go on with {again}")


def _first_line(error: Exception) -> str:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
