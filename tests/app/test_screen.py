"""What reaches a terminal or a pipe: nothing that acts or hides, nothing torn, nothing lost."""

import io
import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from learngate.app import screen
from learngate.app.screen import counted, flat, table, visible
from learngate.app.streaming import Flowing
from tests.app.support import ESCAPES

CONTROL = {"Cc", "Cs"}
BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
TEXTS = st.text(st.characters(), max_size=200)


@given(TEXTS)
@example("\x1b[2K\x9b1A\u202e\u2066\u200b\ufeff\U000e0041\x7f\udcff")
def test_what_is_visible_neither_acts_nor_hides(text):
    for character in visible(text):
        assert character in "\n\t" or unicodedata.category(character) not in CONTROL
        assert unicodedata.bidirectional(character) not in BIDI
        assert not 0xE0000 <= ord(character) <= 0xE007F


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=200))
def test_ordinary_text_is_shown_as_it_is(text):
    assert visible(text) == text


@given(TEXTS, st.integers(10, 50))
def test_a_flat_text_is_one_line_within_its_limit(text, limit):
    assert "\n" not in flat(text, limit)
    assert len(flat(text, limit)) <= limit


def flowed(pieces, *, indent, columns):
    out, before = io.StringIO(), sys.stdout
    sys.stdout = out
    try:
        flowing = Flowing(indent, columns)
        for piece in pieces:
            flowing.write(piece)
        flowing.end()
    finally:
        sys.stdout = before
    return out.getvalue()


WORDS = st.text(st.characters(categories=["L", "N", "P", "Zs"], include_characters="\n 费用"), max_size=300)


@given(WORDS, st.lists(st.integers(0, 300), max_size=10), st.integers(0, 12), st.integers(40, 100))
@example("x" * 300, [3, 90], 6, 40)
@example("费用比较" * 40, [1, 2, 3], 6, 40)
def test_a_flowing_answer_loses_nothing_keeps_its_margin_and_fits(text, cuts, indent, columns):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    shown = flowed(pieces, indent=indent, columns=columns)
    assert shown == flowed([text], indent=indent, columns=columns)
    assert "".join(shown.split()) == "".join(visible(text).split())
    for line in shown.splitlines():
        assert cell_len(line.rstrip()) <= columns or " " not in line.strip()
        assert not line.strip() or line.startswith(" " * indent)


def test_a_flowing_answer_keeps_lists_paragraphs_and_code():
    text = "Two points:\n\n- one\n- two\n\n    code = 1\n"
    assert flowed([text], indent=2, columns=60) == "  Two points:\n\n  - one\n  - two\n\n      code = 1\n"


def test_words_are_not_torn():
    shown = flowed(["one two three four five six seven eight nine ten"], indent=2, columns=24)
    assert shown == "  one two three four\n  five six seven eight\n  nine ten\n"


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_a_table_fits_the_terminal_and_never_cuts_a_number(columns, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    rows = [(1234567, "a long title " * 5, "2026-11-23 05:11"), (8, "短い日本語のタイトル" * 5, "2026-11-23 05:11")]
    table(("id", "title", "changed"), rows, cut=("title",))
    lines = ESCAPES.sub("", capsys.readouterr().out).splitlines()
    assert len(lines) == 3
    assert all("2026-11-23 05:11" in line for line in lines[1:])
    assert lines[1].startswith("1234567  ")
    assert lines[2].startswith("      8  ")
    assert max(cell_len(line) for line in lines) <= max(columns, 40)


def test_a_table_in_a_pipe_is_whole(capsys):
    table(("id", "title"), [(1, "a long title " * 30)], cut=("title",))
    assert "…" not in capsys.readouterr().out


def test_numbers_have_their_nouns():
    assert [counted(1, "turn"), counted(2, "turn"), counted(1000, "memory", "memories")] == [
        "1 turn",
        "2 turns",
        "1,000 memories",
    ]


def test_an_error_is_one_line_however_long_its_reason(capsys):
    screen.complain("first\nsecond\x1b[2J " + "x" * 5000)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(r"Error: first second\x1b[2J")
    assert len(line) < 1100
