"""A decision taken in the inbox lets the paused thread go on."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot

from learngate.graph.gated import GatedGraph


def resume_decided(graph: GatedGraph, proposal_id: int) -> dict[str, Any] | None:
    """Let the thread that waits for a proposal go on, once it was decided in the inbox; return its result.

    `None` where no thread waits for it (any more): its user wrote on, or the proposal came from elsewhere.

    Raises:
        NotFound: there is no such proposal, or it has not been decided.
    """
    config = _thread_of(graph, proposal_id)
    if config is None or not _waits_for(graph.get_state(config), proposal_id):
        return None
    result: dict[str, Any] = graph.invoke(Command(resume="decided"), config)
    return result


async def aresume_decided(graph: GatedGraph, proposal_id: int) -> dict[str, Any] | None:
    """Do as `resume_decided`, asynchronously."""
    config = await asyncio.to_thread(_thread_of, graph, proposal_id)
    if config is None or not _waits_for(await graph.aget_state(config), proposal_id):
        return None
    result: dict[str, Any] = await graph.ainvoke(Command(resume="decided"), config)
    return result


def _thread_of(graph: GatedGraph, proposal_id: int) -> RunnableConfig | None:
    graph.memory.learnings.decision(proposal_id)
    session_id = graph.memory.learnings.proposal(proposal_id).session_id
    return None if session_id is None else {"configurable": {"thread_id": session_id}}


def _waits_for(state: StateSnapshot, proposal_id: int) -> bool:
    proposal = state.values.get("proposal") if state.next == ("review_learning",) else None
    return proposal is not None and proposal["id"] == proposal_id
