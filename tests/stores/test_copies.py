import pytest
from hypothesis import given
from hypothesis import strategies as st

from learngate.stores import copies
from tests.stores.support import draft

ADVICE = "When you buy a fund, look at the expense ratio and the tracking error."
AGAIN = "Please, when buying a fund, always check both expense ratio and tracking error."


def says_no_more(text, than):
    return copies.says_no_more(copies.Told(text), copies.Told(than))


def _found(memory, *insights, k=5, floor=True):
    for insight in insights:
        memory.learnings.add(draft(insight, "Funds"), namespace="n", actor="ana")
    hits = memory.learnings.search("Which fund should I buy, by expense ratio?", namespace="n", k=k, floor=floor)
    return [hit.learning.insight for hit in hits]


def test_what_says_no_more_is_shown_once_and_makes_room(memory):
    other = "Ask what share of a fund its largest holding is before it is bought."
    found = _found(memory, ADVICE, AGAIN, other, k=2)
    assert other in found
    assert len({ADVICE, AGAIN} & set(found)) == 1


def test_of_two_the_longer_one_is_never_hidden(memory):
    longer = "When you buy a fund, look at the expense ratio, the tracking error and the spread."
    assert longer in _found(memory, ADVICE, longer, AGAIN)


def test_without_a_floor_all_are_listed(memory):
    assert len(_found(memory, ADVICE, AGAIN, floor=False)) == 2


def test_none_is_asked_for(memory):
    assert _found(memory, ADVICE, k=0) == []


@pytest.mark.parametrize(
    ("text", "than"),
    [
        (ADVICE, AGAIN),
        (AGAIN, ADVICE),
        ("Weigh flour in grams.", "Make sure that you weigh the flour in grams"),
        ("Compare fees of funds", "Compare the fees and taxes of funds"),
        ("", ""),
    ],
)
def test_it_says_no_more(text, than):
    assert says_no_more(text, than)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Buy funds with costs below 0.2 percent.", "Buy funds with costs below 0.5 percent."),
        ("Buy funds with costs below 0.5 percent.", "Buy funds with costs below 5.0 percent."),
        ("Buy funds with a yield of -5.", "Buy funds with a yield of 5."),
        ("A fund is bought for its costs.", "A fund is never bought for its costs."),
        ("Do buy funds for their costs.", "Don't buy funds for their costs."),
        ("Take the fund with more holdings.", "Take the fund with fewer holdings."),
        ("Keep the costs of funds over a percent.", "Keep the costs of funds under a percent."),
        ("Sort by costs before size.", "Sort by size before costs."),
        ("Use the mean, not the median.", "Use the median, not the mean."),
        ("Avoid bonds, buy stocks.", "Avoid stocks, buy bonds."),
        ("Buy bonds, avoid stocks.", "Avoid bonds, buy stocks."),
        ("Value stocks outperform growth stocks.", "Growth stocks outperform value stocks."),
        ("In a crisis avoid gold stocks.", "In a crisis avoid bonds, buy gold stocks."),
        ("Bonds from abroad are taxed at home.", "Bonds from abroad aren't taxed at home."),
        ("Weigh the fees before you buy.", "Weigh the fees after you buy."),
        ("Shift money from bonds into stocks.", "Shift money into bonds from stocks."),
        ("Prefer growth over value.", "Prefer value over growth."),
        ("Do with funds as acme does.", "Do with funds as globex does."),
        ("Write the service in C.", "Write the service in C++."),
        ("Write the service in C#.", "Write the service in C++."),
    ],
)
def test_what_differs_in_a_word_that_counts_is_other_advice(one, other):
    assert not says_no_more(one, other)
    assert not says_no_more(other, one)


PAIRS = [("mean", "median"), ("bonds", "stocks"), ("growth", "value"), ("flour", "sugar")]
BETWEEN = [
    "not the {1}, the {0}",
    "the {0}, never the {1}",
    "{0} beats {1} by far",
    "{0} and then {1}",
    "avoid {0}, buy {1}",
]


@given(
    st.sampled_from(PAIRS), st.sampled_from(BETWEEN), st.sampled_from(["", "in a crisis ", "when prices fall, "])
)
def test_what_swaps_two_things_is_other_advice(pair, between, before):
    one, other = before + between.format(*pair), before + between.format(*reversed(pair))
    assert says_no_more(one, one)
    assert not says_no_more(one, other)
    assert not says_no_more(other, one)


def test_what_is_narrower_is_never_hidden_behind_what_is_wider():
    assert not says_no_more("Compare funds by costs only.", "Compare funds by costs and risks.")
    assert not says_no_more(
        "Compare funds by costs.", "Before funds are sold in March, compare their costs and taxes."
    )
