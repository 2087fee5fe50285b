"""When a question is about: the days that its words name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from learngate.stores.lexical import content_words

Span = tuple[datetime, datetime]
"""From the first moment on, and before the second."""

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MOST = 8
"""How many spans of time a question names at the most: each costs a look into the database."""
TALKING = frozenset(
    """
    ask asked chat chatted conversation conversations discuss discussed happen happened happening mention mentioned
    say said saying session sessions speak spoke spoken talk talked talking tell told
    """.split()  # noqa: SIM905
)
"""Words for what past sessions are: beside a day they say nothing of what it was about."""
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}

_MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS) + "|sept"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_SHAPES = [
    r"(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<day>\d{1,2})",
    rf"{_DAY}(?: of)? (?P<month>{_MONTH})\.?,? (?P<year>\d{{4}})",
    rf"(?P<month>{_MONTH})\.? {_DAY},? (?P<year>\d{{4}})",
    rf"(?P<month>{_MONTH})\.?,? (?:of )?(?P<year>\d{{4}})",
    r"(?:in|of|during) (?P<year>\d{4})",
]
_DATES = [re.compile(rf"\b{shape}\b") for shape in _SHAPES]
_AGO = re.compile(rf"\b(?P<count>\d{{1,3}}|{'|'.join(NUMBERS)}) (?P<unit>day|week|month|year)s? ago\b")
_TIME = re.compile(
    rf"{_DAY}|\d+|{_MONTH}|(?:day|week|month|year)s?|{'|'.join([*WEEKDAYS, *NUMBERS])}|ago|last|today|yesterday"
)
_LAST = re.compile(rf"\b(?P<which>last|this) (?P<unit>week|month|year|{'|'.join(WEEKDAYS)})\b")


def named_days(query: str, today: datetime) -> list[Span]:
    """Return the spans of time that a question names, in absolute words or in words that count back from today.

    "on May 3, 2023", "in June 2024", "in 2023", "2026-11-23", "yesterday", "last week", "two months ago",
    "last Tuesday". A date that no calendar has is none; a day without a year is none either.
    """
    text = " ".join(query.casefold().split())
    midnight = today.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = [*_absolute(text), *_relative(text, midnight)]
    return list(dict.fromkeys(span for span in found if span is not None))[:MOST]


def asks_only_when(query: str) -> bool:
    """Whether a question names a time at the most, and nothing that was spoken of ("what did we say today?")."""
    return all(word in TALKING or _TIME.fullmatch(word) for word in content_words(query))


def _absolute(text: str) -> Iterator[Span | None]:
    taken: list[tuple[int, int]] = []
    for shape in _DATES:
        for match in shape.finditer(text):
            # "3 May 2023" is not "May 2023", too.
            if any(start < match.end() and match.start() < end for start, end in taken):
                continue
            taken.append(match.span())
            parts = match.groupdict()
            month = parts.get("number") or (_number(parts["month"]) if parts.get("month") else None)
            yield _span(
                int(parts["year"]), int(month) if month else None, int(parts["day"]) if "day" in parts else None
            )


def _relative(text: str, midnight: datetime) -> Iterator[Span | None]:
    for word, back in (("today", 0), ("yesterday", 1)):
        if re.search(rf"\b{word}\b", text):
            yield _days(midnight - timedelta(days=back), 1)
    for match in _AGO.finditer(text):
        given = match["count"]
        yield _back(midnight, match["unit"], NUMBERS.get(given) or int(given))
    for match in _LAST.finditer(text):
        unit = match["unit"]
        if unit in WEEKDAYS:
            behind = (midnight.weekday() - WEEKDAYS.index(unit)) % 7
            yield _days(midnight - timedelta(days=behind or 7 * (match["which"] == "last")), 1)
        else:
            yield _back(midnight, unit, 1 if match["which"] == "last" else 0)


def _back(midnight: datetime, unit: str, count: int) -> Span | None:
    """Return the day, calendar week, month or year that lies so many back."""
    if unit == "day":
        return _days(midnight - timedelta(days=count), 1)
    if unit == "week":
        return _days(midnight - timedelta(days=midnight.weekday() + 7 * count), 7)
    if unit == "month":
        months = midnight.year * 12 + midnight.month - 1 - count
        return _span(months // 12, months % 12 + 1, None)
    return _span(midnight.year - count, None, None)


def _span(year: int, month: int | None, day: int | None) -> Span | None:
    try:
        start = datetime(year, 1 if month is None else month, 1 if day is None else day, tzinfo=UTC)
        if day is not None:
            return _days(start, 1)
        if month is None or month == 12:
            return start, datetime(year + 1, 1, 1, tzinfo=UTC)
        return start, datetime(year, month + 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _days(start: datetime, count: int) -> Span:
    return start, start + timedelta(days=count)


def _number(name: str) -> int:
    return next(number for number, month in enumerate(MONTHS, 1) if month.startswith(name))
