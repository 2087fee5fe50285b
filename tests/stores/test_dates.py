"""The days that a question names: every shape, what no calendar has, and any text at all."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learngate.stores.dates import MONTHS, MOST, asks_only_when, named_days

TODAY = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)  # a Wednesday


def days(query, today=TODAY):
    """Return each span as its first and its last day."""
    spans = named_days(query, today)
    assert all(at.tzinfo is not None and at.time().isoformat() == "00:00:00" for span in spans for at in span)
    return [(f"{start:%Y-%m-%d}", f"{end - timedelta(days=1):%Y-%m-%d}") for start, end in spans]


def day(text):
    return [(text, text)]


MAY = [("2023-05-01", "2023-05-31")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("what happened on 2023-05-08?", day("2023-05-08")),
        ("2023-5-8", day("2023-05-08")),
        ("on 8 May, 2023", day("2023-05-08")),
        ("the 8th of may 2023", day("2023-05-08")),
        ("May 8th, 2023", day("2023-05-08")),
        ("MAY 8 2023", day("2023-05-08")),
        ("on   May\n8,  2023", day("2023-05-08")),
        ("Dec. 31, 2023", day("2023-12-31")),
        ("Sept 3, 2023", day("2023-09-03")),
        ("in Sept. 2023", [("2023-09-01", "2023-09-30")]),
        ("29 February 2024", day("2024-02-29")),
        ("in May 2023", MAY),
        ("in May, 2023", MAY),
        ("may of 2023", MAY),
        ("December 2023", [("2023-12-01", "2023-12-31")]),
        ("in 2023", [("2023-01-01", "2023-12-31")]),
        ("during 2023", [("2023-01-01", "2023-12-31")]),
        ("today", day("2026-11-25")),
        ("yesterday's plan", day("2026-11-24")),
        ("three days ago", day("2026-11-22")),
        ("a week ago", [("2026-11-16", "2026-11-22")]),
        ("12 months ago", [("2025-11-01", "2025-11-30")]),
        ("11 months ago", [("2025-12-01", "2025-12-31")]),
        ("2 years ago", [("2024-01-01", "2024-12-31")]),
        ("this week", [("2026-11-23", "2026-11-29")]),
        ("last week", [("2026-11-16", "2026-11-22")]),
        ("last month", [("2026-10-01", "2026-10-31")]),
        ("last year", [("2025-01-01", "2025-12-31")]),
        ("last Tuesday", day("2026-11-24")),
        ("last Wednesday", day("2026-11-18")),
        ("this Wednesday", day("2026-11-25")),
        ("last Thursday", day("2026-11-19")),
        ("8 May 2023 or 9 May 2023", day("2023-05-08") + day("2023-05-09")),
        ("8 May 2023, that is 2023-05-08", day("2023-05-08")),
    ],
)
def test_every_shape_of_a_date_is_read(query, found):
    assert days(query) == found


@pytest.mark.parametrize(
    "query",
    [
        "30 February 2023",
        "29 February 2023",
        "2023-13-01",
        "2023-00-10",
        "2023-04-31",
        "May 0, 2023",
        "in 0000",
        "in 9999",
        "December 9999",
        "9999-12-31",
        "on 8 May",
        "in may",
        "I may do 2023 things",
        "version 2023",
        "12023-05-08",
        "the last days",
        "todays",
        "marching in 20231",
        "",
    ],
)
def test_what_no_calendar_has_and_what_names_no_day_is_none(query):
    assert days(query) == []


def test_years_far_away_are_years():
    assert named_days("in 0001", TODAY) == [(datetime(1, 1, 1, tzinfo=UTC), datetime(2, 1, 1, tzinfo=UTC))]
    assert days("in 9998") == [("9998-01-01", "9998-12-31")]
    assert days("999 years ago") == [("1027-01-01", "1027-12-31")]


def test_digits_of_any_script_are_digits():
    assert days("in ٢٠٢٣") == [("2023-01-01", "2023-12-31")]
    assert days("२०२३-०५-०८") == day("2023-05-08")
    assert days("in ²⁰²³") == []


def test_today_is_utcs_day_whatever_the_zone():
    late = datetime(2026, 11, 25, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert days("today", late) == day("2026-11-26")
    early = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=14)))
    assert days("last month", early) == [("2025-11-01", "2025-11-30")]


def test_no_more_spans_than_a_search_can_look_up():
    assert len(named_days(" ".join(f"in {year}" for year in range(1000, 2000)), TODAY)) == MOST


@given(st.dates(date(1000, 1, 1), date(9998, 12, 31)))
def test_a_day_is_the_same_in_every_shape(one):
    month = MONTHS[one.month - 1]
    shapes = [
        one.isoformat(),
        f"{one.day} {month} {one.year}",
        f"{month} {one.day}, {one.year}",
        f"{one.day}th of {month[:3]}. {one.year}",
    ]
    for shape in shapes:
        assert days(f"what was on {shape}?") == day(one.isoformat())


@pytest.mark.parametrize(
    ("query", "only"),
    [
        ("What did we talk about yesterday?", True),
        ("what was said on 8 May, 2023", True),
        ("What happened on the 8th of May 2023?", True),
        ("2023-05-08", True),
        ("our conversations two weeks ago", True),
        ("What did I ask last Tuesday or in Sept. 2023?", True),
        ("Which fund did I ask about yesterday?", False),
        ("What did Ana say last week?", False),
        ("the bonds of May 2023", False),
        ("I may marry today", False),
        ("mayor, 2023", False),
    ],
)
def test_a_question_that_names_nothing_but_a_day_is_told_from_others(query, only):
    assert asks_only_when(query) is only


WORDS = st.sampled_from(
    [
        *MONTHS,
        "in",
        "of",
        "last",
        "this",
        "ago",
        "0",
        "31",
        "999",
        "0000",
        "9999",
        "days",
        "year",
        "monday",
        "-",
        ",",
        "٣",
    ]
)


@given(
    st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=12).map(" ".join)),
    st.datetimes(datetime(1000, 1, 1), datetime(9990, 1, 1)),
)
def test_any_text_on_any_day_names_spans_that_begin_before_they_end(text, at):
    spans = named_days(text, at.replace(tzinfo=UTC))
    assert asks_only_when(text) in {True, False}
    assert not asks_only_when(f"{text} zebra")
    assert all(start < end for start, end in spans)
    assert len(spans) <= MOST
