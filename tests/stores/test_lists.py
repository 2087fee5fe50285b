import pytest
from sqlalchemy import text

from learngate.stores import open_memory
from learngate.stores.lists import PART, parts
from tests.stores.support import Hashed, turn

MANY = 66_000
"""More than a statement of PostgreSQL has parameters for."""
COPIES = """
    INSERT INTO turns (seq, id, session_id, user_id, namespace, parent_seq, status, reflection,
        reflection_attempts, happened_at, recorded_at, scope, body, before)
    SELECT seq + n, 't' || n, session_id, user_id, namespace, seq + n - 1, status, reflection,
        reflection_attempts, happened_at, recorded_at, scope, '', ''
    FROM turns, generate_series(1, :most) AS n
"""


def test_the_parts_are_the_whole_in_its_order():
    for size in (0, 1, PART, PART + 1, 3 * PART):
        found = [*parts(range(size))]
        assert [one for part in found for one in part] == [*range(size)]
        assert all(0 < len(part) <= PART for part in found)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_session_of_more_turns_than_a_statement_has_parameters_is_read_whole(url):
    with open_memory(url, embedder=Hashed()) as memory:
        memory.sessions.append(turn("s", id="t0", user_id="ana"))
        with memory.database.write() as connection:
            connection.execute(text(COPIES), {"most": MANY - 1})
            connection.execute(text(f"UPDATE sessions SET newest = 't{MANY - 1}'"))
        window = memory.sessions.window("s", turns=100_000)
        assert [one.id for one in window] == [f"t{n}" for n in range(MANY)]
        assert window[0].question == "How are you?"
        placed = memory.sessions.place("s", head=None, message_id="new", keep=100_000)
        assert placed.head == f"t{MANY - 1}"


def test_more_ids_than_a_statement_has_parameters_are_looked_up(url):
    with open_memory(url, embedder=Hashed()) as memory:
        for n in range(3):
            memory.sessions.append(turn("s", id=f"t{n}", user_id="ana"))
        ids = ["t2", *(f"none {n}" for n in range(MANY)), "t0"]
        assert [one.id for one in memory.sessions.turns("s", ids)] == ["t2", "t0"]
        assert memory.sessions.recorded("s", ids).keys() == {"t0", "t2"}
