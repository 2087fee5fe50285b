"""The agent as `langgraph dev` and Studio load it; the server brings the checkpointer."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from functools import cache

from learngate.app.market import market_data
from learngate.graph import build_graph
from learngate.graph.gated import GatedGraph
from learngate.graph.models import resolve_model
from learngate.graph.settings import OFFLINE, chosen_model
from learngate.stores import ConfigurationError, open_memory

logger = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


async def agent() -> GatedGraph:
    """Return the agent on the memory that `LEARNGATE_DB` names, opened once per process.

    The server asks for it on every request, reads included, and refuses whatever blocks its event loop: so
    the first request opens the memory, in a thread.

    Raises:
        ConfigurationError: `LEARNGATE_MODEL` names a model that cannot be used.
        StoreError: the database cannot be opened.
    """
    return await asyncio.to_thread(_opened_once)


def _opened_once() -> GatedGraph:
    with _one_at_a_time:
        return _open()


@cache
def _open() -> GatedGraph:
    name = _model()
    model = resolve_model(name)
    memory = open_memory()
    atexit.register(memory.close)
    logger.info("%s answers; what it remembers is in the database %s", name, memory.database.name)
    return build_graph(memory, model=model, tools=[market_data], checkpointer=None)


def _model() -> str:
    try:
        return chosen_model()
    except ConfigurationError as missing:
        logger.warning("%s; until then the stand-in answers", missing)
        return OFFLINE
