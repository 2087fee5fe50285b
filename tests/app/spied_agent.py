"""A second graph for the server under test: its model writes down every prompt, and its runs break where told.

A file `fault-<thread>` in the folder it is served from names the node to break at, once: `error respond` raises
before that node, `hold respond` says that it is reached, and waits there to be killed.
"""

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables.config import ensure_config

from learngate.app.market import market_data
from learngate.graph import build_graph
from learngate.graph.gated import GatedGraph
from learngate.graph.offline import OfflineChat
from learngate.stores import open_memory

HERE = Path(__file__).parent
PROMPTS = HERE / "prompts.jsonl"


class Spy(OfflineChat):
    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        thread = ensure_config()["configurable"]["thread_id"]
        said = [[m.type, m.content, getattr(m, "tool_calls", None)] for m in messages]
        with PROMPTS.open("a") as file:
            file.write(json.dumps([str(thread), [tool["name"] for tool in tools], said]) + "\n")
        return super()._reply(messages, tools)


class Fault(AsyncCallbackHandler):
    raise_error = True

    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, name: str = "", metadata: dict[str, Any] | None = None, **_: Any
    ) -> None:
        fault = HERE / f"fault-{(metadata or {}).get('thread_id')}"
        if not await asyncio.to_thread(fault.exists):
            return
        how, node = (await asyncio.to_thread(fault.read_text)).split()
        if name != node:
            return
        await asyncio.to_thread(fault.rename, fault.with_name(f"reached-{fault.name}"))
        if how == "error":
            raise RuntimeError(f"broken at {node}")
        await asyncio.sleep(600)


@cache
def _open() -> GatedGraph:
    graph = build_graph(open_memory(), model=Spy(), tools=[market_data], checkpointer=None)
    return graph.with_config(callbacks=[Fault()])


async def agent() -> GatedGraph:
    return await asyncio.to_thread(_open)
