from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from learngate.stores.fusion import fuse

COSINES = st.dictionaries(st.integers(1, 12), st.floats(-1, 1), max_size=8)
BM25 = st.dictionaries(st.integers(1, 12), st.floats(0, 1e6), max_size=8)


@given(COSINES, BM25, st.floats(0, 1))
def test_every_row_of_both_legs_is_there_once_scaled_and_in_order(dense, lexical, weight):
    rows = fuse(dense, lexical, weight=weight)
    assert sorted(row.id for row in rows) == sorted(dense.keys() | lexical.keys())
    assert all(0 <= row.score <= 1 for row in rows)
    assert [(-row.score, row.id) for row in rows] == sorted((-row.score, row.id) for row in rows)
    for row in rows:
        assert row.dense == dense.get(row.id, 0.0)
        assert row.lexical == lexical.get(row.id, 0.0)
        assert (
            row.why
            == {(True, True): "both", (True, False): "dense", (False, True): "lexical"}[
                (row.id in dense, row.id in lexical)
            ]
        )


@given(COSINES, BM25)
def test_a_leg_that_has_all_the_weight_decides_the_order(dense, lexical):
    first = fuse(dense, lexical, weight=1.0)
    scores = [row.dense for row in first if row.id in dense]
    # Two cosines whose difference is lost in scaling may change places.
    assert all(a >= b or b - a < 1e-9 for a, b in pairwise(scores))
    second = fuse(dense, lexical, weight=0.0)
    scores = [row.lexical for row in second if row.id in lexical]
    assert all(a >= b or b - a < 1e-6 for a, b in pairwise(scores))


def test_what_both_legs_find_beats_what_one_finds():
    rows = fuse({1: 0.9, 2: 0.8, 3: 0.1}, {2: 9.0, 4: 1.0})
    assert [(row.id, row.why) for row in rows] == [(2, "both"), (1, "dense"), (3, "dense"), (4, "lexical")]


def test_a_leg_with_one_score_counts_fully():
    assert [(row.id, row.score) for row in fuse({1: 0.2}, {2: 5.0})] == [(1, 0.5), (2, 0.5)]
    assert fuse({}, {}) == []


def test_a_row_with_one_word_of_many_does_not_push_away_what_is_near():
    dense, words = {1: 0.5, 2: 0.4, 3: 0.0}, {3: 9.0}
    assert fuse(dense, words)[0].id == 1
    assert [row.id for row in fuse(dense, words, trust={3: 0.04})] == [1, 2, 3]
    assert [row.id for row in fuse(dense, words, weight=0.4)] == [3, 1, 2]
    assert [row.id for row in fuse(dense, words, weight=0.4, trust={})] == [1, 2, 3]
