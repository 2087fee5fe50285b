import pytest
from hypothesis import given
from hypothesis import strategies as st

from learngate.stores.lexical import plain, starts, stem
from learngate.stores.text import words


@pytest.mark.parametrize(
    "forms",
    [
        ["compare", "compares", "compared", "comparing"],
        ["plan", "plans", "planned", "planning"],
        ["fund", "funds", "funded", "funding"],
        ["rate", "rates", "rated"],
        ["call", "calls", "called", "calling"],
        ["process", "processed", "processing"],
        ["policy", "policies"],
        ["company", "companies"],
        ["study", "studies", "studied", "studying"],
        ["fly", "flies"],
        ["day", "days"],
        ["movie", "movies"],
        ["résumé", "resume", "resumes", "re\u0301sume\u0301s"],
        ["naïve", "naive"],
    ],
)
def test_forms_of_a_word_have_one_stem(forms):
    assert len({stem(form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("sing", "string"), ("king", "kind"), ("red", "re"), ("glass", "gla"), ("fund", "found")]
)
def test_short_and_other_words_stay_apart(one, other):
    assert stem(one) != stem(other)


@pytest.mark.parametrize("word", ["", "a", "s", "es", "ing", "ß", "東京", "ss", "ee"])
def test_any_word_has_a_stem(word):
    assert isinstance(stem(word), str)


@given(st.text(max_size=12) | st.text("flyiesdngáéèüï", max_size=8))
def test_a_word_begins_as_one_may_that_has_its_stem(text):
    for word in words(plain(text)):
        assert word[:3] in starts([stem(word)])


@pytest.mark.parametrize("text", ["東京", "がぎぐ", "한국어", "й ё", "हिन्दी", "Straße", "ŁØ"])
def test_what_is_no_accent_of_a_latin_letter_stays(text):
    assert plain(text) == text
