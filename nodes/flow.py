"""One logic, two drivers: a node that calls a model is written once and runs sync and async.

Such a node is a generator. It yields `Call(runnable, input)`, is sent the reply, and returns its update.
Everything else in it is plain sync code, which the async driver keeps off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from learngate.nodes.state import State

Update = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A model call that a flow asks its driver to make."""

    runnable: Runnable[Any, Any]
    input: Any


Flow = Generator[Call, Any, Update]


@dataclass(frozen=True, slots=True)
class _Done:
    update: Update


def both_ways(flow: Callable[[State], Flow], *, name: str) -> RunnableLambda[State, Update]:
    """Return a node that drives `flow` under `invoke` and `ainvoke` alike."""

    def drive(state: State, config: RunnableConfig) -> Update:
        running = flow(state)
        step = _advance(running, None)
        while isinstance(step, Call):
            step = _advance(running, step.runnable.invoke(step.input, config))
        return step.update

    async def adrive(state: State, config: RunnableConfig) -> Update:
        running = flow(state)
        step = await asyncio.to_thread(_advance, running, None)
        while isinstance(step, Call):
            reply = await step.runnable.ainvoke(step.input, config)
            step = await asyncio.to_thread(_advance, running, reply)
        return step.update

    return RunnableLambda(drive, adrive, name=name)


def _advance(running: Flow, reply: Any) -> Call | _Done:
    # The end of a generator is an exception that must not cross a thread: it becomes a value here.
    try:
        return running.send(reply)
    except StopIteration as end:
        return _Done(end.value)
