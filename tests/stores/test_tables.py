from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from learngate.stores import InvalidInput, open_memory
from learngate.stores.tables import Moment, sealed, unsealed
from tests.stores.support import Hashed, turn

DIALECT = sqlite.dialect()
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones())


def written(moment: datetime) -> str:
    text = Moment().process_bind_param(moment, DIALECT)
    assert text is not None
    return text


@given(TIMES, TIMES)
def test_times_come_back_and_sort_as_text_as_they_do_as_times(one, other):
    assert Moment().process_result_value(written(one), DIALECT) == one.astimezone(UTC)
    assert (written(one) < written(other)) == (one.astimezone(UTC) < other.astimezone(UTC))
    assert len(written(one)) == len(written(other)) == 32


def test_no_time_is_no_time():
    assert Moment().process_bind_param(None, DIALECT) is None
    assert Moment().process_result_value(None, DIALECT) is None


def test_a_time_that_no_calendar_has_is_bad_input():
    early = datetime.fromisoformat("0001-01-01T00:00:00+14:00")
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        with pytest.raises(InvalidInput):
            memory.sessions.append(turn("s", happened_at=early))
        assert memory.sessions.standing("s") is None


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40), st.data())
def test_a_vector_comes_back_and_one_with_a_flipped_bit_or_cut_off_does_not(values, data):
    raw = sealed(np.array(values, dtype=np.float32))
    back = unsealed(raw)
    assert back is not None
    assert back.tolist() == values
    damaged = bytearray(raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    assert unsealed(bytes(damaged)) is None
    assert unsealed(raw[: data.draw(st.integers(0, len(raw) - 4))]) is None
