"""One logic, two drivers: a node that calls a model is written once and runs sync and async.

Such a node is a generator. It yields `Call(runnable, input)`, is sent the reply, and returns its update.
Everything else in it is plain sync code, which the async driver keeps off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

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


class Driven(Runnable[State, Update]):
    """A node that drives a flow under `invoke` and `ainvoke` alike.

    LangGraph traces a node's run by itself. A `RunnableLambda` would add one of its own, and look up how its
    function is called at every turn.
    """

    def __init__(self, flow: Callable[[State], Flow], *, name: str) -> None:
        self.name = name
        self._flow = flow

    def invoke(self, input: State, config: RunnableConfig | None = None, **_: Any) -> Update:
        """Return the node's update."""
        running = self._flow(input)
        step = _advance(running, None)
        while isinstance(step, Call):
            step = _advance(running, step.runnable.invoke(step.input, config))
        return step.update

    async def ainvoke(self, input: State, config: RunnableConfig | None = None, **_: Any) -> Update:
        """Return the node's update, asynchronously."""
        running = self._flow(input)
        step = await asyncio.to_thread(_advance, running, None)
        while isinstance(step, Call):
            reply = await step.runnable.ainvoke(step.input, config)
            step = await asyncio.to_thread(_advance, running, reply)
        return step.update


def _advance(running: Flow, reply: Any) -> Call | _Done:
    # The end of a generator is an exception that must not cross a thread: it becomes a value here.
    try:
        return running.send(reply)
    except StopIteration as end:
        return _Done(end.value)
