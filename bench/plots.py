"""The plots of docs/, and the table of docs/speed.md, from bench/results/.

python -m bench.plots
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.reporting import RESULTS
from bench.tables import write_table

DOCS = Path(__file__).parent.parent / "docs"
OURS, OTHER, THEIRS, EMPTY = "#2a6f97", "#89c2d9", "#c9772b", "#9aa5ab"
RIVALS = {"InMemoryStore": "#c9772b", "langmem": "#8a5a9e", "PostgresStore": "#6b8e23"}


def turn(found: dict[str, Any], figure: Any) -> None:
    """Draw what a turn costs beside the model: by the clock and of the processor."""
    axes = figure.subplots()
    figures = found["medians_ms"]
    names = [name for name in figures if not name.endswith("10000")][::-1]
    labels = [
        name.removesuffix(" 10")
        .replace("async", "(default)")
        .replace("exit", '("exit")')
        .replace("empty", "empty graph")
        for name in names
    ]
    for kind, offset, shade in (("cpu", 0.2, 1.0), ("wall", -0.2, 0.55)):
        colours = [THEIRS if n.startswith("agno") else EMPTY if n.startswith("empty") else OURS for n in names]
        heights = [at + offset for at in range(len(names))]
        bars = axes.barh(heights, [figures[n][kind] for n in names], 0.38, color=colours, alpha=shade)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), labels)
    axes.margins(x=0.1)
    axes.set_xlabel("ms, median of a turn: dark of the processor, light by the clock")
    axes.set_title("A turn beside the model (history of 5, 10 memories, 100 learnings)")


def search(found: dict[str, Any], figure: Any) -> None:
    """Draw what a search costs as a namespace grows."""
    axes = figure.subplots()
    lines = {"learngate: words and meaning": (found["search, ms"], OURS)}
    lines |= {f"{name}: meaning": (ms, RIVALS[name]) for name, ms in found.get("rivals, ms", {}).items()}
    largest = RESULTS / "search_1000000.json"
    if largest.exists():
        more = json.loads(largest.read_text())
        lines["learngate: words and meaning"][0]["1000000"] = more["search, ms"]["1000000"]
        found["learnings"]["1000000"] = 1_000_000
    for label, (ms, colour) in lines.items():
        points = sorted((found["learnings"][key], value) for key, value in ms.items() if key != "scoped")
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
        for at, value in points:
            axes.annotate(f"{value:.1f}", (at, value), textcoords="offset points", xytext=(0, 6), fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="learnings in the namespace", ylabel="ms, median")
    axes.set_title("A search, from text to rows, with the same local embedder")
    axes.margins(x=0.08, y=0.15)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False)


def starting(found: dict[str, Any], figure: Any) -> None:
    """Draw what a process takes until an agent can answer."""
    axes = figure.subplots()
    names = [*found["started"]][::-1]
    seconds = [found["started"][name]["cpu_s"] for name in names]
    bars = axes.barh(names, seconds, color=[EMPTY if name.startswith("bare") else OURS for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds of the processor, median of new processes")
    axes.set_title("A process until then (bare: langgraph, sqlalchemy, faiss, wordllama)")


def growth(found: dict[str, Any], figure: Any) -> None:
    """Draw how a session and a prompt grow."""
    left, right = figure.subplots(1, 2)
    for durability, colour in (("async", OURS), ("exit", OTHER)):
        of = found["session"][durability]["bytes"]
        turns = [int(one) for one in of]
        name = "default" if durability == "async" else '"exit"'
        left.plot(turns, [one["file"] / 1e6 for one in of.values()], "o-", color=colour, label=f"{name}: the file")
        kept = [one["checkpoints"] / 1e6 for one in of.values()]
        left.plot(turns, kept, ":", color=colour, label=f"{name}: checkpoints in it")
    left.set(xlabel="turns of a session", ylabel="MB", ylim=(0, None), title="A session on the disk")
    left.legend(frameon=False, fontsize=8)
    for kind, colour in (("memories", OURS), ("learnings", THEIRS)):
        of = found["prompt"][kind]
        right.plot([int(one) for one in of], [*of.values()], "o-", color=colour, label=kind)
    right.set(xscale="log", xlabel="so many of them", ylabel="characters", ylim=(0, None), title="A whole prompt")
    right.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    right.legend(frameon=False, fontsize=8)


def memories(found: dict[str, Any], figure: Any) -> None:
    """Draw what of a prompt a user's memories take as they grow."""
    axes = figure.subplots()
    points = found["sqlite"]["memories of the user"]
    sizes = [int(name) for name in points]
    each = points["10"]["prompt tokens"] / 10
    axes.plot(sizes, [size * each for size in sizes], "--", color=EMPTY, label="all of them")
    axes.plot(sizes, [one["prompt tokens"] for one in points.values()], "o-", color=OURS, label="what is recalled")
    axes.set(xscale="log", yscale="log", xlabel="memories of the user", ylabel="tokens of a prompt")
    axes.set_title("What of a prompt a user's memories take")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False)


def recall(found: dict[str, Any], figure: Any) -> None:
    """Draw what is kept and what is silent, on the half that was not chosen on."""
    axes = figure.subplots()
    shown = {
        "far: silent": "silent far",
        "other tasks: silent": "silent other tasks",
        "near: silent": "silent near",
        "ordinary: kept": "kept ordinary",
        "reworded: kept": "kept reworded",
        "paraphrase: kept": "kept paraphrase",
    }
    bars = [f"{label}, {many}" for label in shown for many in ("104", "13")][::-1]
    keys = [key + end for key in shown.values() for end in ("", ", among 13")][::-1]
    for offset, (name, colour) in zip((0.2, -0.2), (("wordllama", OURS), ("minilm", THEIRS)), strict=True):
        judged = [found[name][key]["judged"] for key in keys]
        places = [at + offset for at in range(len(keys))]
        errors = [[one[0] - one[1] for one in judged], [one[2] - one[0] for one in judged]]
        axes.barh(places, [one[0] for one in judged], 0.4, xerr=errors, color=colour, label=name)
    axes.set_yticks(range(len(bars)), bars)
    axes.set_xlabel("share of questions, with its interval of 95 %; among 104 learnings and among 13")
    axes.set_title("What a search for learnings keeps, and where it is silent")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


DRAWN: dict[str, tuple[Callable[[dict[str, Any], Any], None], tuple[float, float]]] = {
    "overhead": (turn, (8, 3.9)),
    "search": (search, (8, 3.9)),
    "starting": (starting, (8, 3.0)),
    "growth": (growth, (8, 3.4)),
    "memories": (memories, (8, 3.6)),
    "recall": (recall, (8, 4.8)),
}


def main() -> int:
    """Draw a plot for each of the results that are there, and write the table of all."""
    mpl.use("Agg")
    plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11}
    for name, (draw, size) in DRAWN.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        figure = plt.figure(figsize=size, layout="constrained")
        draw(json.loads(path.read_text()), figure)
        figure.savefig(DOCS / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
    write_table(DOCS / "speed.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
