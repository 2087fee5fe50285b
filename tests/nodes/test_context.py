"""Who speaks: the server's authenticated user, else the context, else nobody."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from learngate.nodes import Context
from learngate.nodes.context import Caller, caller_of, session_of
from learngate.stores import InvalidInput


def config(**configurable: Any) -> Any:
    return {"configurable": configurable}


@pytest.mark.parametrize(
    ("given", "context", "caller"),
    [
        (None, None, Caller(None, "default", None, said=False)),
        (config(), None, Caller(None, "default", None, said=False)),
        (config(), {}, Caller(None, "default", None, said=False)),
        (config(), Context(), Caller(None, "default", None, said=True)),
        (config(), Context("ana", "finance", "kim"), Caller("ana", "finance", "kim", said=True)),
        (config(), {"user_id": None, "namespace": None}, Caller(None, "default", None, said=True)),
        (config(), SimpleNamespace(user_id="ana"), Caller("ana", "default", None, said=True)),
        (config(), Context("ana", ""), Caller("ana", "default", None, said=True)),
        (config(langgraph_auth_user={"identity": "ana"}), None, Caller("ana", "default", "ana", said=True)),
        (
            config(langgraph_auth_user=SimpleNamespace(identity="ana")),
            Context("ben", "finance", "kim"),
            Caller("ana", "finance", "ana", said=True),
        ),
        (config(langgraph_auth_user={}), Context("ben"), Caller("ben", "default", None, said=True)),
        (
            config(__pregel_runtime=SimpleNamespace(context=Context("ana"))),
            None,
            Caller("ana", "default", None, said=True),
        ),
    ],
)
def test_who_speaks(given: Any, context: Any, caller: Caller) -> None:
    assert caller_of(given, context) == caller


@pytest.mark.parametrize(
    "context",
    [
        {"user_id": 5},
        {"user": "ana"},
        "ana",
        7,
        ["ana"],
        Context(user_id=" ana"),
        Context(user_id="a\x00"),
        Context(user_id="\ud800"),
        Context("ana", "a//b"),
        Context("ana", reviewer="kim\n"),
    ],
    ids=repr,
)
def test_who_cannot_be(context: Any) -> None:
    with pytest.raises(InvalidInput):
        caller_of(config(), context)


@pytest.mark.parametrize(
    ("thread_id", "session"),
    [("s", "s"), (7, "7"), (UUID(int=7), "00000000-0000-0000-0000-000000000007")],
)
def test_the_session_is_the_thread(thread_id: Any, session: str) -> None:
    assert session_of(config(thread_id=thread_id)) == session


@pytest.mark.parametrize(
    "given", [None, {}, config(), config(thread_id=None), config(thread_id=""), config(thread_id=" x")]
)
def test_there_has_to_be_a_thread(given: Any) -> None:
    with pytest.raises(InvalidInput):
        session_of(given)
