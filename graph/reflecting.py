"""Reflection apart from the run that answered: for `reflection="background"`, and for what failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage

from learngate.graph.build import build_reflection
from learngate.nodes.state import State, TurnState
from learngate.stores import Memory, Turn


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
        report = _report(memory, turn, graph.invoke(_state(turn)))
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
        result = await graph.ainvoke(_state(turn))
        report = await asyncio.to_thread(_report, memory, turn, result)
        reports.append(report)
        if on_turn is not None:
            on_turn(report)
    return reports


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
    )
