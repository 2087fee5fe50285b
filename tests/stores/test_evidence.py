"""What speaks for a past turn: laws that hold of any candidates, and the words that name somebody."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learngate.stores.evidence import NEIGHBOUR, SESSION, SPEAKER, WHEN, Candidate, weighed

AT = datetime(2024, 3, 5, tzinfo=UTC)
DAY = (AT, AT + timedelta(days=1))
SCORES = st.floats(0, 1)


def one(seq, score=0.0, *, parent=None, session="s", body="", at=AT - timedelta(days=9)):
    return Candidate(seq, parent, session, at, body, score)


@st.composite
def trees(draw):
    """Draw sessions of turns, each of which follows an earlier one of its session or begins anew."""
    made = []
    for seq in range(1, draw(st.integers(1, 12)) + 1):
        session = draw(st.sampled_from("ab"))
        earlier = [other.seq for other in made if other.session_id == session]
        parent = draw(st.sampled_from([None, *earlier, 99]))
        said = draw(st.sampled_from(["Ana: hello", "Ben: hello", "Ana: a\nBen: b", "hello"]))
        at = draw(st.sampled_from([AT, AT - timedelta(days=1)]))
        made.append(one(seq, draw(SCORES), parent=parent, session=session, body=said, at=at))
    return made


QUERIES = st.sampled_from(["what?", "what did Ana say?", "Ana and Ben"])


@given(trees(), QUERIES, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(candidates, query, random):
    shuffled = random.sample(candidates, len(candidates))
    assert weighed(shuffled, query, [DAY]) == weighed(candidates, query, [DAY])


@given(trees(), QUERIES, st.data())
def test_no_score_falls_when_a_turn_of_its_session_fits_better(candidates, query, data):
    raised = data.draw(st.sampled_from(candidates))
    better = replace(raised, score=data.draw(st.floats(raised.score, 1)))
    before = weighed(candidates, query, [DAY])
    after = weighed([better if other is raised else other for other in candidates], query, [DAY])
    mine = [other.seq for other in candidates if other.session_id == raised.session_id]
    assert all(after[seq] >= before[seq] - 1e-9 for seq in mine)


@given(trees(), QUERIES)
def test_no_score_falls_when_a_day_is_named_or_somebody(candidates, query):
    plain = weighed(candidates, "what?", [])
    for richer in (weighed(candidates, query, []), weighed(candidates, "what?", [DAY])):
        assert all(richer[seq] >= score for seq, score in plain.items())


@given(trees(), QUERIES)
def test_every_turn_has_its_own_words_at_the_least_and_a_bounded_rest_at_the_most(candidates, query):
    scores = weighed(candidates, query, [DAY, DAY])
    assert scores.keys() == {other.seq for other in candidates}
    for other in candidates:
        assert other.score <= scores[other.seq] <= other.score + NEIGHBOUR + SESSION + SPEAKER + WHEN + 1e-9


def test_a_turn_gains_by_the_better_of_its_neighbours():
    scores = weighed([one(1, 0.4), one(2, 0.0, parent=1), one(3, 0.8, parent=2)], "what?", [])
    shared = scores[3] - 0.8
    assert scores[2] == pytest.approx(0.8 * NEIGHBOUR + shared)
    assert scores[1] == pytest.approx(0.4 + shared)


def test_branches_are_neighbours_of_the_turn_that_they_follow_and_not_of_each_other():
    scores = weighed([one(1), one(2, 0.6, parent=1), one(3, 0.0, parent=1)], "what?", [])
    assert scores[1] - scores[3] == pytest.approx(0.6 * NEIGHBOUR)


def test_the_better_session_gains():
    scores = weighed([one(1, 0.2), one(2, 0.9), one(3, 0.2, session="t")], "what?", [])
    assert scores[1] - scores[3] == pytest.approx(SESSION * (1 - 0.2 / 1.1))


@pytest.mark.parametrize(
    ("query", "gains"),
    [
        ("What does Ana eat?", True),
        ("ANA'S food", True),
        ("what about ana-maria", True),
        ("What do bananas cost?", False),
        ("Ana and Ben", False),
        ("neither", False),
    ],
)
def test_a_speaker_is_named_by_whole_words_and_alone(query, gains):
    scores = weighed([one(1, body="Ana: hi"), one(2, body="Ben: hi, Ana")], query, [])
    assert (scores[1] - scores[2] == pytest.approx(SPEAKER)) is gains


def test_who_speaks_stands_at_the_beginning_of_a_line():
    told = [one(1, body="Tuesday\nAna: to do\n  Ben: hi\n  Note: hi"), one(2, body="Tuesday\nBen: hi")]
    for query, gain in (("What did Ben note?", SPEAKER), ("What did Ana note?", -SPEAKER), ("the note", 0.0)):
        scores = weighed(told, query, [])
        assert scores[2] - scores[1] == pytest.approx(gain)


def test_nothing_is_weighed_of_nothing():
    assert weighed([], "what did Ana say in 2023?", [DAY]) == {}
