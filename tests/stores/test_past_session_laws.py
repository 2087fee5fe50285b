"""Searching past sessions: laws that hold of any conversations and any question, on either database."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from learngate.stores import InvalidInput, Turn, open_memory
from learngate.stores.records import ROOT
from learngate.stores.text import words
from tests.databases import needs_postgres, new_postgres
from tests.stores.support import Hashed

AT = datetime(2024, 3, 5, 12, tzinfo=UTC)
VOCABULARY = ["zebra", "lion", "bond", "fee", "cello", "harbour"]
EXAMPLES = count()


@dataclass
class Told:
    """What one example says: turns by several users, whose names no other example has."""

    turns: list[Turn]
    number: int = field(default_factory=lambda: next(EXAMPLES))

    def user(self, name):
        return None if name is None else f"{name} {self.number}"

    def put(self, memory):
        """Record every turn; each follows one of its session, or begins anew."""
        recorded = {}
        for position, one in enumerate(self.turns):
            session = f"{one.session_id} {one.user_id} {self.number}"
            earlier = [turn.id for turn in recorded.values() if turn.session_id == session]
            parent = earlier[position % len(earlier)] if earlier and one.parent != ROOT else ROOT
            recorded[position] = memory.sessions.append(
                Turn(
                    session,
                    one.messages,
                    id=f"t{position}",
                    user_id=self.user(one.user_id),
                    parent=parent,
                    status=one.status,
                    happened_at=one.happened_at,
                )
            )
        return recorded


@st.composite
def conversations(draw, users=("ana", "ben", None)):
    told = []
    for _ in range(draw(st.integers(1, 8))):
        text = " ".join(draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=4)))
        said = [HumanMessage(text, name=draw(st.sampled_from([None, "Cleo", "Dan"])))]
        said += draw(st.sampled_from([[], [AIMessage("I see.")], [ToolMessage("zebra", tool_call_id="c")]]))
        told.append(
            Turn(
                draw(st.sampled_from("xy")),
                tuple(said),
                user_id=draw(st.sampled_from(users)),
                parent=draw(st.sampled_from([None, ROOT])),
                status=draw(st.sampled_from(["complete", "complete", "complete", "failed"])),
                happened_at=AT + timedelta(days=draw(st.integers(0, 3))),
            )
        )
    return Told(told)


QUERIES = st.lists(
    st.sampled_from(
        [*VOCABULARY, "the", "Cleo", "Dan", "in March 2024", "on 2024-03-06", "ben", "😀", '"', "xylophone"]
    ),
    min_size=1,
    max_size=4,
).map(" ".join)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
def memory(request, tmp_path_factory):
    """One database for all examples of a test: that strangers' turns are many is what it is for."""
    if request.param == "sqlite":
        with open_memory(f"sqlite:///{tmp_path_factory.mktemp('past') / 'a.db'}", embedder=Hashed()) as memory:
            yield memory
        return
    with new_postgres() as url, open_memory(url, embedder=Hashed()) as memory:
        yield memory


def seen(hits):
    return [(hit.turn.session_id, hit.turn.id, round(hit.score, 6), hit.why) for hit in hits]


@settings(max_examples=25)
@given(conversations(), QUERIES, st.integers(0, 12))
def test_what_is_found_is_the_users_own_complete_bounded_and_in_order(memory, told, query, k):
    told.put(memory)
    for name in ("ana", "ben"):
        user = told.user(name)
        hits = memory.sessions.search(query, user_id=user, k=k, beside=True)
        shown = [one for hit in hits for one in (hit.turn, hit.before, hit.after) if one is not None]
        assert {one.user_id for one in shown} <= {user}
        assert {one.status for one in shown} <= {"complete"}
        assert len({(hit.turn.session_id, hit.turn.id) for hit in hits}) == len(hits) <= k
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        every = memory.sessions.search(query, user_id=user, k=50)
        assert seen(hits) == seen(every)[:k]
        assert seen(memory.sessions.search(query, user_id=user, k=50)) == seen(every)
        for hit in hits:
            assert hit.before is None or hit.turn.parent == hit.before.id
            assert hit.after is None or hit.after.parent == hit.turn.id


@settings(max_examples=25)
@given(conversations(), st.sampled_from(VOCABULARY))
def test_whatever_holds_the_word_is_found_and_what_a_tool_said_is_not_searched(memory, told, word):
    recorded = told.put(memory).values()
    for name in ("ana", "ben"):
        mine = [one for one in recorded if one.user_id == told.user(name) and one.status == "complete"]
        holding = {(one.session_id, one.id) for one in mine if word in words(one.question)}
        found = memory.sessions.search(word, user_id=told.user(name), k=50)
        assert holding <= {(hit.turn.session_id, hit.turn.id) for hit in found}
        by_words = [hit for hit in found if hit.why in {"lexical", "both"}]
        after = {
            (one.session_id, one.id)
            for one in mine
            if (one.session_id, one.parent)
            in {(other.session_id, other.id) for other in recorded if word in words(other.question)}
        }
        assert {(hit.turn.session_id, hit.turn.id) for hit in by_words} <= holding | after


@settings(max_examples=15)
@given(conversations(users=("ana",)), QUERIES)
def test_a_database_that_is_opened_again_finds_the_same(tmp_path_factory, told, query):
    url = f"sqlite:///{tmp_path_factory.mktemp('again') / 'a.db'}"
    with open_memory(url, embedder=Hashed()) as memory:
        told.put(memory)
        first = seen(memory.sessions.search(query, user_id=told.user("ana")))
    with open_memory(url, embedder=Hashed()) as memory:
        assert seen(memory.sessions.search(query, user_id=told.user("ana"))) == first


@needs_postgres
@settings(max_examples=15)
@given(data=st.data())
def test_both_databases_find_the_same_turns_of_a_word_and_put_the_same_first_where_one_fits_best(two, data):
    told, query = data.draw(conversations(users=("ana",))), data.draw(st.sampled_from(VOCABULARY))
    for memory in two:
        told.put(memory)
    here, there = (memory.sessions.search(query, user_id=told.user("ana"), k=50) for memory in two)
    assert {row[:2] for row in seen(here)} == {row[:2] for row in seen(there)}
    assert {row[1]: row[3] for row in seen(here)} == {row[1]: row[3] for row in seen(there)}


@pytest.fixture(scope="module")
def two():
    with (
        new_postgres() as url,
        open_memory("sqlite://", embedder=Hashed()) as here,
        open_memory(url, embedder=Hashed()) as there,
    ):
        yield here, there


# -- odd questions and odd turns -----------------------------------------------------------------------------------


@pytest.fixture
def odd(memory):
    """A user whose sessions are: one of one turn, one of a picture, one of nothing but a tool, and one of emoji."""
    user = f"odd {next(EXAMPLES)}"
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    asked = AIMessage("", tool_calls=[{"name": "price", "args": {"of": "zebra"}, "id": "c"}])
    told = {
        "one": (HumanMessage("The zebra crossing"),),
        "picture": (picture, AIMessage("")),
        "tool": (HumanMessage(""), asked, ToolMessage("zebra", tool_call_id="c")),
        "emoji": (HumanMessage("😀 🦓"), AIMessage("…")),
    }
    for name, said in told.items():
        memory.sessions.append(Turn(f"{user} {name}", said, id=name, user_id=user, happened_at=AT))
    memory.sessions.append(Turn(f"{user} picture", (HumanMessage("A lion, I think"),), id="lion", user_id=user))
    return lambda query, **more: memory.sessions.search(query, user_id=user, **more)


def test_a_session_of_one_turn_has_nothing_beside_it(odd):
    hit = odd("zebra", beside=True)[0]
    assert (hit.turn.id, hit.before, hit.after) == ("one", None, None)


def test_a_turn_without_a_word_is_found_by_its_day_and_stands_beside_others(odd):
    assert {"one", "picture", "tool", "emoji"} <= {hit.turn.id for hit in odd("what was on 2024-03-05?")}
    hit = odd("lion", beside=True)[0]
    assert (hit.turn.id, hit.before.id) == ("lion", "picture")


@pytest.mark.parametrize("query", ["😀", "🦓 😀", "-", '"', "…", "?!", "()", "\u200b"])
def test_a_question_without_a_word_finds_nothing(odd, query):
    assert odd(query) == []


@pytest.mark.parametrize(
    "query",
    [
        "zebra NEAR(",
        'zebra" OR "x',
        "zebra*",
        "-zebra",
        "scope:zebra",
        "zebra AND",
        "zebra & | !",
        "zebra:*",
        "zebra\\",
    ],
)
def test_what_a_database_would_take_for_an_operator_is_a_word_or_nothing(odd, query):
    assert "one" in [hit.turn.id for hit in odd(query)]


def test_a_question_of_stop_words_is_searched_for_them_and_a_long_one_is_cut(odd):
    assert [hit.turn.id for hit in odd("the the the")][:1] == ["one"]
    assert odd("zebra " * 1_600)[0].turn.id == "one"
    assert "one" in [hit.turn.id for hit in odd(" ".join(["zebra", *(f"word{n}" for n in range(1_000))]))]


@pytest.mark.parametrize(
    "query", ["zebra on 30 February 2024", "zebra in 0000", "zebra 9999-99-99", "zebra 999 years ago"]
)
def test_a_date_that_is_none_leaves_the_words(odd, query):
    assert odd(query)[0].turn.id == "one"
    assert "when" not in [hit.why for hit in odd(query)]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("z" * 100_000, "at most 10,000"),
        ("z\x00", "NUL"),
        ("z\ud800", "surrogate"),
    ],
)
def test_a_question_that_is_none_is_refused_with_what_is_wrong(odd, query, says):
    with pytest.raises(InvalidInput, match=says):
        odd(query)
