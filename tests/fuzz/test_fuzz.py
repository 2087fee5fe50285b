"""A sample of `make fuzz`: every public call of the stores, and the gate, with anything for an argument."""

import pytest
from hypothesis import settings

from tests.databases import BOTH
from tests.fuzz.answers import fuzz_answers, fuzz_reading
from tests.fuzz.calls import CALLS, Fuzzed, fuzz, fuzzed_memory

EXAMPLES = settings().max_examples // 5


@pytest.mark.parametrize("kind", BOTH)
def test_no_call_fails_but_with_an_error_of_ours_and_none_that_is_refused_writes(kind):
    fuzzed = Fuzzed(kind)
    tallies = [fuzz(fuzzed, store, name, EXAMPLES, derandomize=True) for store, name in CALLS]
    fuzzed.close()
    assert [one for tally in tallies for one in tally.found] == []
    assert all(tally.tries for tally in tallies)
    assert sum(tally.done for tally in tallies) > len(CALLS)


def test_any_answer_decides_or_is_asked_for_again():
    with fuzzed_memory("sqlite") as memory:
        tally = fuzz_answers(memory, EXAMPLES * 4, derandomize=True)
    assert tally.found == []
    assert tally.done
    assert tally.refused["asked again"]


def test_any_answer_is_read():
    assert fuzz_reading(EXAMPLES * 20, derandomize=True).found == []
