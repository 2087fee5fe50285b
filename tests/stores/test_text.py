import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from learngate.stores import InvalidInput
from learngate.stores.text import (
    NAME_LIMIT,
    check_name,
    check_namespace,
    check_text,
    clean,
    digest,
    fingerprint,
    lineage,
    words,
)

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the memory is empty"),
        (" \n\t\u3000", "the memory is empty"),
        ("a\x00b", "NUL"),
        ("a\ud800b", "lone surrogate at character 1"),
        ("\udfff", "lone surrogate at character 0"),
        ("x" * 100_000, "has 100,000 bytes; at most 2,000 are taken"),
        ("费" * 667, "has 2,001 bytes"),
        (None, "must be text, not NoneType"),
        (5, "must be text, not int"),
        (b"tea", "must be text, not bytes"),
        (["tea"], "must be text, not list"),
    ],
    ids=repr,
)
def test_what_cannot_be_stored_is_refused_with_the_reason(text, said):
    with pytest.raises(InvalidInput, match=said):
        check_text(text, what="the memory", limit=2_000)


def test_a_text_may_fill_its_limit_to_the_byte():
    assert check_text("é" * 1_000, what="it", limit=2_000) == "é" * 1_000


@given(ANY_TEXT)
def test_any_text_is_taken_fit_for_storing_or_refused(text):
    try:
        taken = check_text(text, what="it", limit=20)
    except InvalidInput:
        return
    assert taken
    assert taken == taken.strip() == text.strip()
    assert "\x00" not in taken
    assert len(taken.encode()) <= 20
    assert check_text(taken, what="it", limit=20) == taken


@pytest.mark.parametrize("name", ["ana", "Ana María", "安娜", "o'neill", "می‌خواهم", "x" * NAME_LIMIT, "a/b@c.d"])
def test_a_name_is_taken_as_it_is_given(name):
    assert check_name(name, what="the user") == name


@pytest.mark.parametrize(
    "name",
    [
        " ana",
        "ana ",
        "ana\n",
        "a\nb",
        "a\tb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\u2029b",
        "",
        "x" * 201,
        None,
        7,
        "\x00",
    ],
)
def test_a_name_that_would_break_a_line_or_look_like_another_is_refused(name):
    with pytest.raises(InvalidInput, match="the user"):
        check_name(name, what="the user")


@pytest.mark.parametrize("namespace", ["default", "acme/finance", "a/b/c", "Ünïcode/财务", "two words/here", "."])
def test_a_namespace_is_a_path(namespace):
    assert check_namespace(namespace) == namespace


@pytest.mark.parametrize(
    "namespace", ["", "/", "a/", "/a", "a//b", "a/ b", "a /b", "a/\u3000/b", "a\n/b", "a/\x00", "a\ud800", None, 3]
)
def test_a_namespace_with_an_empty_or_padded_segment_is_refused(namespace):
    with pytest.raises(InvalidInput):
        check_namespace(namespace)


@given(st.lists(st.text(alphabet="abc ", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=6))
def test_a_namespace_reads_itself_and_every_ancestor_and_nothing_else(segments):
    namespace = "/".join(segments)
    read = lineage(namespace)
    assert read[0] == namespace
    assert read[-1] == segments[0]
    assert len(read) == len(segments)
    assert all(longer.startswith(f"{shorter}/") for longer, shorter in pairwise(read))


def test_a_namespace_is_not_read_by_one_that_merely_begins_like_it():
    assert "acme" not in lineage("acme-labs/finance")


SAME = [
    "Check both: expense ratio, and tracking error!",
    "check both expense ratio and tracking error",
    "  CHECK   both «expense ratio» — and (tracking-error)…\n",
    "Ｃheck both expense ratio and tracking error。",
]


@pytest.mark.parametrize("text", SAME[1:])
def test_case_spacing_and_punctuation_make_no_new_text(text):
    assert digest(text) == digest(SAME[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I write C", "I write C++"),
        ("I write C", "I write C#"),
        ("keep at -5 degrees", "keep at 5 degrees"),
        ("spread < 1 %", "spread > 1 %"),
        ("3 %", "$ 3"),
        ("$ 3", "€ 3"),
        ("p & q", "p q"),
        ("5.0", "50"),
        ("1 2", "12"),
        # Vowel signs, which Python's \w leaves out.
        ("कि", "का"),
        ("!!!", "???"),
        ("I like ☕", "I like 🍺"),
    ],
)
def test_what_carries_meaning_makes_another_text(one, other):
    assert digest(one) != digest(other)


@given(
    ANY_TEXT.filter(lambda t: t.isascii()),
    st.sampled_from([str.upper, str.title, "  {}  ".format, '"{}"'.format, "{}.".format]),
)
@example("", str.upper)
def test_a_digest_is_blind_to_case_and_to_what_stands_around(text, change):
    if any(c.isalnum() for c in text):
        assert digest(change(text)) == digest(text)


def test_a_fingerprint_sees_every_letter():
    assert fingerprint("Tea") == fingerprint("Tea")
    assert fingerprint("Tea") != fingerprint("tea")


@given(ANY_TEXT)
def test_a_cleaned_text_can_be_stored_and_a_sound_one_is_left_alone(text):
    cleaned = clean(text)
    assert "\x00" not in cleaned
    cleaned.encode()
    assert clean(cleaned) == cleaned
    if "\x00" not in text and not any(unicodedata.category(c) == "Cs" for c in text):
        assert cleaned == text


def test_words_are_folded_for_comparison():
    assert words("Straße, ＥＴＦ; naïve") == ["strasse", "etf", "naïve"]
