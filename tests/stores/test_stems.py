import pytest

from learngate.stores.lexical import stem


@pytest.mark.parametrize(
    "forms",
    [
        ["compare", "compares", "compared", "comparing"],
        ["plan", "plans", "planned", "planning"],
        ["fund", "funds", "funded", "funding"],
        ["rate", "rates", "rated"],
        ["call", "calls", "called", "calling"],
        ["process", "processed", "processing"],
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
