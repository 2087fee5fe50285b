"""The table of docs/speed.md: each figure that was asked for, as it was measured last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.reporting import RESULTS

BEGIN, END = "<!-- figures: written by bench/plots.py -->", "<!-- end of figures -->"
NAMES = {
    "async ÷ agno": "a turn beside the model at default durability ÷ Agno's (automatic memory)",
    "exit ÷ agno": 'a turn beside the model at `durability="exit"` ÷ Agno\'s (automatic memory)',
    "async − empty, ms": "a turn at default durability − the same graph with empty nodes, ms",
    "exit − empty, ms": 'a turn at `"exit"` − the same graph with empty nodes, ms',
    "async, 10,000 ÷ 10 memories": "a turn at default durability with 10,000 memories of the user ÷ with 10",
    "exit, 10,000 ÷ 10 memories": 'a turn at `"exit"` with 10,000 memories of the user ÷ with 10',
    "100": "a search among 100 learnings, ms",
    "10000": "a search among 10,000, ms",
    "100000": "a search among 100,000, ms",
    "scoped": "a search of a namespace that has 1 % of 100,000, ms",
    "after one new ÷ without": "a search after one new learning ÷ one without, at 100,000",
    "recall@10": "of the ten nearest by exact search, found",
    "resident MB": "resident memory with 100,000 learnings, langgraph loaded, MB",
    "ready ÷ bare": "an offline agent ready to answer ÷ importing langgraph, sqlalchemy, faiss and wordllama",
    "answered ÷ bare, loaded": "a first answer ÷ the same four, weights loaded and a vector searched for",
}
Line = tuple[str, float | None, float | None, str]


def lines() -> Iterator[Line]:
    """Yield each figure: what it is, by the clock, of the processor, what was asked."""
    overhead = _read("overhead")
    for name, of in overhead.get("compared", {}).items():
        yield name, of["wall"], of["cpu"], f"≤ {overhead['asked'][name]:g}"
    found = _read("search")
    asked = found.get("asked", {})
    for name, ms in found.get("search, ms", {}).items():
        cpu = found.get("search, CPU ms", {}).get(name)
        yield name, ms, cpu, f"≤ {asked[name]:g}" if name in asked else "–"
    for name in ("after one new ÷ without", "recall@10", "resident MB"):
        if name in found:
            cpu = found.get(f"{name}, CPU")
            yield name, found[name], cpu, f"{'≥' if name == 'recall@10' else '≤'} {asked[name]:g}"
    largest = _read("search_1000000")
    if largest:
        cpu = largest.get("search, CPU ms", {}).get("1000000")
        yield "a search among 1,000,000, ms", largest["search, ms"]["1000000"], cpu, "–"
        yield "resident memory with 1,000,000 learnings, MB", largest["resident MB"], None, "–"
    started = _read("starting")
    for name, ratio in started.get("compared", {}).items():
        limit = started["asked"].get(name)
        yield name, None, ratio, f"≤ {limit:g}" if limit else "–"
    yield from _growth(_read("growth"))


def _growth(found: dict[str, Any]) -> Iterator[Line]:
    for durability, of in found.get("session", {}).items():
        name = "default durability" if durability == "async" else '`"exit"`'
        last, sizes = [*of["bytes"].items()][-1]
        for what, part in (("the file", "file"), ("of it checkpoints", "checkpoints")):
            yield f"a session of {last} turns at {name}: {what}, MB", sizes[part] / 1e6, None, "–"
        wall, cpu = (next(v for k, v in of.items() if k.endswith(f", {kind}")) for kind in ("wall", "cpu"))
        yield f"its turn {last} ÷ turn 10", wall, cpu, "≤ 1.5"
    for kind, of in found.get("prompt", {}).items():
        for many in sorted(of, key=int):
            yield f"characters of a prompt with {int(many):,} {kind}", of[many], None, "–"


def met(asked: str, wall: float | None, cpu: float | None) -> str:
    """Say whether a figure is what was asked for: by the clock, where it was taken."""
    value = cpu if wall is None else wall
    if asked == "–" or value is None:
        return ""
    sign, limit = asked.split()
    return "yes" if (value <= float(limit) if sign == "≤" else value >= float(limit)) else "**no**"


def write_table(path: Path) -> None:
    """Write the table between its two marks in a file."""
    rows = ["| | by the clock | of the processor | asked | met |", "|---|---|---|---|---|"]
    rows += [
        f"| {NAMES.get(name, name)} | {_n(wall)} | {_n(cpu)} | {asked} | {met(asked, wall, cpu)} |"
        for name, wall, cpu, asked in lines()
    ]
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{after}")


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _n(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
