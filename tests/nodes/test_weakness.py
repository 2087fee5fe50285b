"""What makes a good learning, enforced: specific, actionable, generalizable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import learngate.nodes
from learngate.nodes.reflection import Candidate, weakness

GOOD = [
    "When comparing ETFs, check both expense ratio and tracking error.",
    "Tech P/E ratios typically range 20-35x; name the sector's own range first.",
    "Convert all amounts to EUR before comparing funds listed in 3 currencies.",
    "Ask for the time zone before scheduling across countries.",
    "费用比率 und Tracking Error gehören in jeden Vergleich zweier ETFs.",
]


@pytest.mark.parametrize("insight", GOOD)
def test_good_ones_pass(insight: str) -> None:
    assert weakness(Candidate(title="t", insight=insight)) is None


@pytest.mark.parametrize(
    ("title", "insight", "says"),
    [
        ("", "Check the expense ratio of both funds.", "no title"),
        ("  ", "Check the expense ratio of both funds.", "no title"),
        ("t", " ", "no title or no insight"),
        ("t" * 201, "Check the expense ratio of both funds.", "title is too long"),
        ("ü" * 101, "Check the expense ratio of both funds.", "title is too long"),
        ("t", "word " * 1_000, "too long"),
        ("t", "Check the costs.", "not specific"),
        ("t", "2024 12.5 13.1 14 15 EUR", "raw data"),
        ("t", "Should one check the expense ratio first?", "question"),
        ("t", "I prefer funds with a low expense ratio.", "about a person"),
        ("t", "The user asked which fund costs the least.", "sums up"),
        ("t", "Summary: two funds were compared by cost.", "sums up"),
        ("t", "Perhaps the expense ratio matters more than size.", "speculation"),
        ("t", "The expense ratio is currently lower than before.", "one-off"),
    ],
)
def test_weak_ones_are_named(title: str, insight: str, says: str) -> None:
    assert says in str(weakness(Candidate(title=title, insight=insight)))


@pytest.mark.parametrize("field", ["applies_when", "rationale"])
def test_the_other_texts_have_limits_too(field: str) -> None:
    assert weakness(Candidate(title="t", insight=GOOD[0], **{field: "x" * 5_000})) == "it is too long"


@given(st.text(), st.text())
def test_any_text_can_be_screened(title: str, insight: str) -> None:
    assert weakness(Candidate(title=title, insight=insight)) != ""


def test_the_room_offers_what_it_says() -> None:
    assert learngate.nodes.__all__ == sorted(learngate.nodes.__all__, key=lambda name: (name.islower(), name))
    assert all(hasattr(learngate.nodes, name) for name in learngate.nodes.__all__)
