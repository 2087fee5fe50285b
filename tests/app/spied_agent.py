"""A second graph for the server under test: its model answers offline and writes down every prompt."""

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables.config import ensure_config

from learngate.app.market import market_data
from learngate.graph import build_graph
from learngate.graph.gated import GatedGraph
from learngate.graph.offline import OfflineChat
from learngate.stores import open_memory

PROMPTS = Path(__file__).with_name("prompts.jsonl")


class Spy(OfflineChat):
    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        thread = ensure_config()["configurable"]["thread_id"]
        said = [[m.type, m.content, getattr(m, "tool_calls", None)] for m in messages]
        with PROMPTS.open("a") as file:
            file.write(json.dumps([str(thread), [tool["name"] for tool in tools], said]) + "\n")
        return super()._reply(messages, tools)


@cache
def _open() -> GatedGraph:
    return build_graph(open_memory(), model=Spy(), tools=[market_data], checkpointer=None)


async def agent() -> GatedGraph:
    return await asyncio.to_thread(_open)
