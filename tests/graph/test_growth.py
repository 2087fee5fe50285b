"""A session's files grow by the turn and not by the square: state keeps a window, SQL keeps the rest.

The bounds are those for 500 turns (90 MB, and 25 MB at durability "exit") scaled to fewer; LangGraph's
`add_messages` kept whole needs eight times as much at 500 turns.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from learngate.graph import build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import ProposalDraft
from tests.graph.support import ANA, opened, say, thread

TURNS = 80
CHARACTERS = 400


def words(source: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = " ".join("".join(source.choices(letters, k=source.randint(2, 10))) for _ in range(100))
    return text[:CHARACTERS]


@pytest.mark.parametrize(("durability", "megabytes"), [("async", 90), ("exit", 25)])
def test_the_files_of_a_long_session_stay_small(tmp_path: Path, durability: Any, megabytes: float) -> None:
    source = random.Random(7)
    kept = []
    with opened(f"sqlite:///{tmp_path / 'learngate.db'}") as memory:
        for n in range(8):
            memory.users.remember("ana", f"Ana's fact number {n}: {words(source)[:80]}")
            draft = ProposalDraft(f"Learning {n}", f"When asked about {n}, check {words(source)[:120]}")
            memory.learnings.add(draft, namespace="finance", actor="kim")
        graph = build_graph(memory, model=ScriptedChat(answers=[lambda _: words(source)]))
        for n in range(TURNS):
            graph.invoke(say(words(source), f"m{n}"), thread("s"), context=ANA, durability=durability)
            if n in {TURNS // 4, TURNS - 1}:
                newest = graph.checkpointer.get_tuple(thread("s"))
                kept.append(len(graph.checkpointer.serde.dumps_typed(newest.checkpoint)[1]))
    early, late = kept
    assert late < 1.1 * early
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < megabytes * 1e6 * TURNS / 500
