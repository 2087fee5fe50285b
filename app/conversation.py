"""One session at the command line: a message goes in, what happens is shown as it happens, Ctrl-C stops it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.types import Command

from learngate.app.stopping import Stoppable, Stopped
from learngate.graph import Context, build_graph
from learngate.graph.routes import RECALL
from learngate.nodes.state import Recall, merge_recall
from learngate.stores import Decision, Memory, NotAllowed, Turn, UserMemory


class Show(Protocol):
    """What watches a turn while it happens."""

    def recalled(self, recall: dict[str, Any], milliseconds: float) -> None:
        """Hear what was recalled; the model is asked next."""

    def piece(self, text: str) -> None:
        """Take a piece of the answer."""

    def tool(self, name: str) -> None:
        """Hear that the model asks for a tool."""

    def answered(self) -> None:
        """Hear that the answer is complete."""


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """What a turn changed in the memory of its user."""

    change: str
    memory: UserMemory


@dataclass(slots=True)
class Said:
    """How a turn, or an answer at the gate, went."""

    turn_id: str
    answer: str = ""
    recall: dict[str, Any] = field(default_factory=dict)
    proposal: dict[str, Any] | None = None
    asks: bool = False
    problem: str | None = None
    stopped: bool = False
    error: Exception | None = None
    turn: Turn | None = None
    changes: Sequence[MemoryChange] = ()

    @property
    def recorded(self) -> bool:
        """Whether the turn is in the database."""
        return self.turn is not None


class Conversation:
    """A session that one person holds.

    It runs the graph's async side: only there can a model call that hangs be given up at once.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        model: str,
        session_id: str,
        context: Context,
        tools: Sequence[BaseTool] = (),
    ) -> None:
        standing = memory.sessions.standing(session_id)
        if standing is not None and standing.owner != context.user_id:
            whose = f"{context.user_id or 'nobody'}'s"
            raise NotAllowed(f"session {session_id!r} is not {whose}: name its user (--user), or another session")
        self.session_id = session_id
        self.user_id = context.user_id
        self._memory, self._context = memory, context
        self._graph = build_graph(memory, model=model, tools=tools)
        self._config: RunnableConfig = {"configurable": {"thread_id": session_id}}
        self._running = Stoppable()
        self._phase = "idle"
        self._stopping = False

    def close(self) -> None:
        """Close the event loop; a model call that was given up is not waited for."""
        self._running.close()

    # -- what a person does ------------------------------------------------------------------------------

    def say(self, text: str, show: Show) -> Said:
        """Send a message and show its answer. Ctrl-C stops it, unless it is being recorded at that moment.

        Whatever the message, the model or the database failed of is in `.error`.

        Raises:
            StoreError: the database is out of reach, so that nobody can say what is in it.
        """
        said = Said(turn_id=str(uuid4()))
        before = self._memories()
        try:
            self._run({"messages": [HumanMessage(text, id=said.turn_id)]}, said, show)
        except Exception as error:  # noqa: BLE001 - every provider has errors of its own, and chat shows them all
            said.error = error
        said.turn = self.recorded(said.turn_id)
        said.changes = _changes(before, self._memories())
        return said

    def answer(self, decision: Decision | None, show: Show) -> Said:
        """Answer at the gate; `None` leaves the proposal in the inbox. Ctrl-C waits until that is done."""
        answer: dict[str, Any] = {"type": "later"}
        if decision is not None:
            words = {name: getattr(decision, name) for name in ("title", "insight", "applies_when")}
            answer = {"type": decision.type, "message": decision.note}
            answer |= {"args": {k: v for k, v in words.items() if v is not None}} if decision.type == "edit" else {}
        return self._resume(answer, show)

    def go_on(self, show: Show) -> Said:
        """Let a run go on whose proposal was decided in the inbox meanwhile."""
        return self._resume("decided", show)

    def waiting(self) -> Said | None:
        """Return what this session asks, if it is paused at the gate."""
        state = self._graph.get_state(self._config)
        proposal = state.values.get("proposal") if state.next == ("review_learning",) else None
        return None if proposal is None else Said(turn_id="", proposal=proposal, asks=True)

    def recorded(self, turn_id: str) -> Turn | None:
        """Return a turn, if it is in the database."""
        return next(iter(self._memory.sessions.turns(self.session_id, [turn_id])), None)

    # -- running -----------------------------------------------------------------------------------------

    def _resume(self, answer: Any, show: Show) -> Said:
        said = Said(turn_id="")
        self._run(Command(resume=answer), said, show)
        return said

    def _run(self, given: Any, said: Said, show: Show) -> None:
        self._stopping = False
        self._phase = "deciding" if isinstance(given, Command) else "answering"
        try:
            self._running.run(self._watch(given, said, show), on_ctrl_c=self._stop)
        except Stopped:
            said.stopped = True
        said.stopped = said.stopped or self._stopping

    def _stop(self) -> None:
        """Stop what runs; while the turn is being recorded, right after that: it is recorded or it is not."""
        self._stopping = self._phase != "deciding"
        if self._phase in {"answering", "reflecting"}:
            self._running.stop()

    async def _watch(self, given: Any, said: Said, show: Show) -> None:
        began = time.perf_counter()
        modes = ["messages", "updates"]
        parts = cast(
            AsyncGenerator[Any, None],
            self._graph.astream(given, self._config, context=self._context, stream_mode=modes),
        )
        async with contextlib.aclosing(parts):
            async for mode, part in parts:
                if mode == "messages":
                    message, about = part
                    if about.get("langgraph_node") == "respond" and isinstance(message, AIMessage) and message.text:
                        said.answer += message.text
                        show.piece(message.text)
                    continue
                for node, update in part.items():
                    if node == "begin_turn":
                        began = time.perf_counter()
                    self._note(node, update, said, show, began)
                if self._stopping:
                    return

    def _note(self, node: str, update: Any, said: Said, show: Show, began: float) -> None:
        if node == "__interrupt__":
            asked = update[0].value
            said.asks, said.proposal, said.problem = True, asked["proposal"], asked["problem"]
        if not isinstance(update, dict):
            return
        if node in RECALL:
            said.recall = {**merge_recall(cast(Recall, said.recall), update["recall"])}
            if len(said.recall.keys() - {"notes", "query"}) == len(RECALL):
                show.recalled(said.recall, (time.perf_counter() - began) * 1000)
        elif node == "respond":
            self._answered(update["messages"][-1], said, show)
        elif node == "save_turn":
            self._phase = "reflecting"
        elif node in {"propose_learning", "save_learning"}:
            said.proposal = update.get("proposal")

    def _answered(self, message: BaseMessage, said: Said, show: Show) -> None:
        """Note that the model has spoken: with tool calls it speaks again, else the turn is recorded next."""
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        for call in calls:
            show.tool(call["name"])
        if calls:
            said.answer = ""
            return
        if not said.answer:  # words of ours, which no model has streamed
            show.piece(message.text)
        said.answer = message.text
        show.answered()
        self._phase = "recording"

    def _memories(self) -> dict[int, UserMemory]:
        if self.user_id is None:
            return {}
        return {memory.id: memory for memory in self._memory.users.list(self.user_id, limit=100_000)}


def _changes(before: dict[int, UserMemory], after: dict[int, UserMemory]) -> list[MemoryChange]:
    added = [MemoryChange("remembered", memory) for i, memory in after.items() if i not in before]
    updated = [
        MemoryChange("updated", memory)
        for i, memory in after.items()
        if i in before and before[i].revision != memory.revision
    ]
    gone = [MemoryChange("forgot", memory) for i, memory in before.items() if i not in after]
    return sorted([*added, *updated, *gone], key=lambda change: change.memory.id)
