"""Reflection apart from the run that answered: for `reflection="background"`, and for what failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage

from learngate import nodes
from learngate.graph import routes
from learngate.graph.build import build_reflection
from learngate.nodes.state import Outcome, State, TurnState
from learngate.stores import Memory, Turn

WAITING = {"pending", "failed"}


@dataclass(frozen=True, slots=True)
class ReflectionReport:
    """How the reflection on one turn ended; `proposal_id` names what it put into the inbox."""

    session_id: str
    turn_id: str
    status: str
    proposal_id: int | None
    error: str | None


def reflect_pending(
    memory: Memory,
    *,
    model: BaseChatModel | str,
    limit: int = 100,
    on_turn: Callable[[ReflectionReport], None] | None = None,
) -> list[ReflectionReport]:
    """Reflect on recorded turns whose reflection is pending or failed, the oldest first.

    Run it as often as you like, in as many processes: what a turn brings takes effect once. A turn that
    fails is left for the next time, five times at the most. `on_turn` is told of each as it ends.

    Raises:
        ConfigurationError: the model cannot be used.
    """
    graph = build_reflection(memory, model=model)
    reports = []
    for turn in memory.sessions.unreflected(limit=limit):
        state = _state(turn)
        result = graph.invoke(state) if turn.reflection in WAITING else _apply_noted(memory, state)
        report = _report(memory, turn, result)
        reports.append(report)
        if on_turn is not None:
            on_turn(report)
    return reports


async def areflect_pending(
    memory: Memory,
    *,
    model: BaseChatModel | str,
    limit: int = 100,
    on_turn: Callable[[ReflectionReport], None] | None = None,
) -> list[ReflectionReport]:
    """Do as `reflect_pending`, asynchronously; cancelled, it gives up a call that hangs."""
    graph = await asyncio.to_thread(build_reflection, memory, model=model)
    reports = []
    for turn in await asyncio.to_thread(memory.sessions.unreflected, limit=limit):
        state = _state(turn)
        if turn.reflection in WAITING:
            result = await graph.ainvoke(state)
        else:
            result = await asyncio.to_thread(_apply_noted, memory, state)
        report = await asyncio.to_thread(_report, memory, turn, result)
        reports.append(report)
        if on_turn is not None:
            on_turn(report)
    return reports


def _apply_noted(memory: Memory, state: State) -> dict[str, Any]:
    """Give effect to what the model's tools noted in a turn that is not reflected on."""
    step, result = routes.next_effect(state), dict[str, Any]()
    if step == "remember_user":
        nodes.remember_user(state, users=memory.users)
        step = routes.after_remember(state)
    if step == "propose_learning":
        result = nodes.propose_learning(state, learnings=memory.learnings, sessions=memory.sessions)
    return result


def _report(memory: Memory, turn: Turn, result: dict[str, Any]) -> ReflectionReport:
    after = memory.sessions.get(turn.session_id, turn.id)
    proposal = result.get("proposal")
    return ReflectionReport(
        turn.session_id, turn.id, after.reflection, proposal["id"] if proposal else None, after.error
    )


def _state(turn: Turn) -> State:
    return State(
        messages=cast(list[AnyMessage], list(turn.messages)),
        turn=TurnState(
            id=turn.id,
            parent=turn.parent or "",
            session_id=turn.session_id,
            user_id=turn.user_id,
            namespace=turn.namespace,
            redelivered=False,
        ),
        outcome=cast("Outcome | None", turn.noted),
    )
