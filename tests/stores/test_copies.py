import pytest

from tests.stores.support import draft

ADVICE = "Look at the expense ratio and the tracking error before a fund is bought."
OTHER_WORDS = "Before you buy a fund, look at its expense ratio and at its tracking error."


def _found(memory, *insights, k=5):
    for insight in insights:
        memory.learnings.add(draft(insight, "Funds"), namespace="n", actor="ana")
    hits = memory.learnings.search("Which fund should be bought, by expense ratio?", namespace="n", k=k)
    return {hit.learning.insight for hit in hits}


def test_the_same_advice_in_other_words_is_shown_once_and_makes_room(memory):
    other = "Ask what share of a fund its largest holding is before it is bought."
    found = _found(memory, ADVICE, OTHER_WORDS, other, k=2)
    assert len(found) == 2
    assert other in found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "Buy a fund with an expense ratio below 0.2 percent.",
            "Buy a fund with an expense ratio below 0.5 percent.",
        ),
        ("A fund should be bought for its expense ratio.", "A fund should never be bought for its expense ratio."),
    ],
)
def test_another_number_or_a_denial_is_other_advice(memory, one, other):
    assert _found(memory, one, other) == {one, other}


def test_without_a_floor_all_are_listed(memory):
    _found(memory, ADVICE, OTHER_WORDS)
    assert len(memory.learnings.search("expense ratio of a fund", namespace="n", floor=False)) == 2
