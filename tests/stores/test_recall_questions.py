"""What the questions of `bench/recall.py` claim to be, and that the default search answers them as the docs say."""

import json
from pathlib import Path

import pytest

from learngate.stores import lexical, open_memory
from learngate.stores.records import ProposalDraft
from learngate.stores.tables import learnings

DATA = json.loads((Path(__file__).parents[2] / "bench/data/recall.json").read_text())


@pytest.fixture(scope="module")
def taught():
    with open_memory("sqlite://", embedder="wordllama") as memory:
        ids = {}
        for one in DATA["learnings"]:
            words = ProposalDraft(one["title"], one["insight"], one["applies_when"])
            ids[memory.learnings.add(words, namespace="n", actor="ana").id] = one
        yield memory, ids


def test_there_are_enough_of_each_and_none_twice(taught):
    assert len(DATA["learnings"]) >= 100
    assert len(DATA["far"]) >= 100
    asked = [one[kind] for one in DATA["learnings"] for kind in ("question", "paraphrase")] + DATA["far"]
    assert len(asked) == len(set(asked)) >= 300


def test_no_paraphrase_shares_the_stem_of_a_content_word_with_its_learning(taught):
    memory, ids = taught
    scopes = [lexical.scope_token("namespace", "n")]
    with memory.database.read() as connection:
        for learning_id, one in ids.items():
            query = one["paraphrase"]
            found = lexical.search(connection, learnings, scopes=scopes, query=query, limit=len(ids))
            assert learning_id not in dict(found), query


def test_what_is_far_is_silent_and_what_is_meant_is_kept(taught):
    memory, ids = taught
    silent = [not memory.learnings.search(query, namespace="n") for query in DATA["far"]]
    kept = [
        learning_id in {hit.learning.id for hit in memory.learnings.search(one["question"], namespace="n")}
        for learning_id, one in ids.items()
    ]
    assert sum(silent) / len(silent) >= 0.95
    assert sum(kept) / len(kept) >= 0.93
