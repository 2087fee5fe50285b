"""langmem's side of bench/search.py: `langmem_side.py TEXTS.json`, under a Python that has it.

The file has `{name: {"told": [text, …], "asked": [question, …]}}`; the answer is a line of JSON, `{name: ms}`.
It is langmem's own search tool on LangGraph's `InMemoryStore`, with the embedder that learngate has.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import wordllama
from langgraph.store.base import PutOp
from langgraph.store.memory import InMemoryStore
from langmem import create_search_memory_tool

MODEL = wordllama.WordLlama.load(dim=256, cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def embed(texts: list[str]) -> list[list[float]]:
    vectors: list[list[float]] = MODEL.embed(texts, norm=True).tolist()
    return vectors


def searched(told: list[str], asked: list[str]) -> float:
    """Return the median milliseconds of a search; the first two warm up."""
    store = InMemoryStore(index={"embed": embed, "dims": 256, "fields": ["content"]})
    store.batch([PutOp(("finance",), str(n), {"content": text}) for n, text in enumerate(told)])
    tool: Any = create_search_memory_tool(("finance",), store=store)
    taken = []
    for question in [*asked[:2], *asked]:
        began = time.perf_counter()
        found = tool.invoke({"query": question, "limit": 5})
        taken.append((time.perf_counter() - began) * 1000)
        assert found
    return median(taken[2:])


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps({name: searched(one["told"], one["asked"]) for name, one in given.items()}))


if __name__ == "__main__":
    main()
