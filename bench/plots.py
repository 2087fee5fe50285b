"""The plots of docs/, drawn from bench/results/.

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

DOCS = Path(__file__).parent.parent / "docs"
OURS, THEIRS, EMPTY = "#2a6f97", "#c9772b", "#9aa5ab"


def turn(found: dict[str, Any], axes: Any) -> None:
    """Draw what a turn costs beside the model."""
    figures = found["medians_ms"]
    names = [name for name in figures if not name.endswith("10000")][::-1]
    colours = [THEIRS if name.startswith("agno") else EMPTY if name.startswith("empty") else OURS for name in names]
    labels = [name.removesuffix(" 10").replace("async", "(default)").replace("exit", '("exit")') for name in names]
    bars = axes.barh(labels, [figures[name]["cpu"] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("a turn beside the model: milliseconds of the processor, median")


def search(found: dict[str, Any], axes: Any) -> None:
    """Draw what a search costs as a namespace grows."""
    for name, colour in (("search, ms", OURS), ("InMemoryStore, ms", THEIRS)):
        points = sorted((found["learnings"][key], ms) for key, ms in found[name].items() if key != "scoped")
        label = "learngate" if colour == OURS else "LangGraph's InMemoryStore, the same embedder"
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="learnings in the namespace", ylabel="a search, ms, median")
    axes.legend(frameon=False)


def starting(found: dict[str, Any], axes: Any) -> None:
    """Draw what a process takes until an agent can answer."""
    names = [*found["started"]][::-1]
    seconds = [found["started"][name]["cpu_s"] for name in names]
    bars = axes.barh(names, seconds, color=[EMPTY if name == "bare" else OURS for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlabel("a process until then: seconds of the processor, median")


def memories(found: dict[str, Any], axes: Any) -> None:
    """Draw what of a prompt a user's memories take as they grow."""
    points = found["sqlite"]["memories of the user"]
    sizes = [int(name) for name in points]
    each = points["10"]["prompt tokens"] / 10
    axes.plot(sizes, [size * each for size in sizes], "--", color=EMPTY, label="all of them")
    axes.plot(sizes, [one["prompt tokens"] for one in points.values()], "o-", color=OURS, label="what is recalled")
    axes.set(xscale="log", yscale="log", xlabel="memories of the user", ylabel="tokens of a prompt")
    axes.legend(frameon=False)


def recall(found: dict[str, Any], axes: Any) -> None:
    """Draw what is kept and what is silent, on the half that was not chosen on."""
    shown = {
        "far: silent": "silent far",
        "near: silent": "silent near",
        "ordinary: kept": "kept ordinary",
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
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


DRAWN: dict[str, Callable[[dict[str, Any], Any], None]] = {
    "overhead": turn,
    "search": search,
    "starting": starting,
    "memories": memories,
    "recall": recall,
}


def main() -> int:
    """Draw a plot for each of the results that are there."""
    mpl.use("Agg")
    for name, draw in DRAWN.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
        axes.spines[["top", "right"]].set_visible(False)
        draw(json.loads(path.read_text()), axes)
        figure.savefig(DOCS / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
