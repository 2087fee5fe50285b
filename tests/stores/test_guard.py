from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from learngate.stores import Decision, Excerpt, InvalidInput, MemoryOperation
from tests.stores.support import draft, turn

QUOTING = draft("x", excerpts=(Excerpt("y", user_id="z" * 201),))
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.users.list("ana", limit=-1), "the limit is a number from 0 to 2,147,483,647, not -1"),
        (lambda m: m.users.list("ana", limit=2**31), "the limit is a number from 0"),
        (lambda m: m.users.list("ana", limit=2.0), "the limit must be a number, not float"),
        (lambda m: m.users.list("ana", limit=True), "the limit must be a number, not bool"),
        (lambda m: m.users.forget("ana", "1"), "the memory id must be a number, not str"),
        (lambda m: m.users.forget("ana", 2**63), "the memory id is a number of more than 64 bits"),
        (lambda m: m.users.forget("ana", np.int64(1)), "the memory id must be a number, not int64"),
        (lambda m: m.users.remember("ana", b"tea"), "the text must be text, not bytes"),
        (lambda m: m.users.remember("ana", "tea", pinned=1), "the pinned must be True or False, not int"),
        (lambda m: m.users.remember("ana", "tea", source="st"), "the source must be a tuple, not str"),
        (lambda m: m.users.remember("ana", "tea", source=("s",)), "the source has 2 parts, not 1"),
        (lambda m: m.users.apply("ana", [MemoryOperation("add", 5)], source=("s", "t")), "number 1 of the oper"),
        (lambda m: m.users.apply("ana", ["add"], source=("s", "t")), "must be MemoryOperation, not str"),
        (lambda m: m.users.recall("ana", "tea", budget=float("nan")), "the budget must be a number, not float"),
        (lambda m: m.sessions.window("s", turns=-1), "the turns is a number from 0"),
        (lambda m: m.sessions.standing("a\x00"), "the session id holds a NUL character"),
        (lambda m: m.sessions.turns("s", "q1"), "the ids must be a list, not str"),
        (lambda m: m.sessions.mark_reflection("s", "q1", "weird"), "the status is one of 'off', 'pending'"),
        (lambda m: m.sessions.append(turn("s", happened_at="now")), "its happened at must be datetime, not str"),
        (lambda m: m.sessions.append(turn("s", usage=[1])), "its usage must be a dict, not list"),
        (lambda m: m.sessions.append("hello"), "the turn must be Turn, not str"),
        (lambda m: m.learnings.propose(QUOTING, namespace="n"), "number 1 of the draft: its excerpts: its user id"),
        (lambda m: m.learnings.decide(1, "approve", reviewer="rev"), "the decision must be Decision, not str"),
        (lambda m: m.learnings.decide(1, Decision("maybe"), reviewer="rev"), "its type is one of 'approve'"),
        (lambda m: m.learnings.list(namespace="n", status="gone"), "the status is one of 'active', 'retired'"),
    ],
)  # fmt: skip
def test_what_no_annotation_names_is_refused_with_the_name_of_the_argument(memory, call, says):
    with pytest.raises(InvalidInput, match=says):
        call(memory)


def test_a_time_that_is_none_in_utc_is_refused(memory):
    early = datetime.min.replace(tzinfo=UTC).astimezone()
    for when in (datetime.min.replace(tzinfo=_east(14)), datetime.max.replace(tzinfo=_east(-12))):
        with pytest.raises(InvalidInput, match="no time that can be stored"):
            memory.sessions.append(turn("s", happened_at=when))
    assert memory.sessions.append(turn("s", happened_at=early)).happened_at == early


def _east(hours):
    return timezone(timedelta(hours=hours))


def test_a_wrong_number_of_arguments_stays_pythons_own_error(memory):
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'text'"):
        memory.users.remember("ana")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        memory.users.list("ana", colour="red")
