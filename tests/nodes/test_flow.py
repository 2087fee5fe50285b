"""One logic, two drivers: a flow runs the same sync and async, and its errors are the caller's."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from learngate.nodes.flow import Call, Driven, Flow
from tests.nodes.support import state


def sync(node: Any) -> Any:
    return node.invoke(state())


def not_sync(node: Any) -> Any:
    return asyncio.run(node.ainvoke(state()))


either_way = pytest.mark.parametrize("run", [sync, not_sync])


def calling(answer: Callable[[Any], Any]) -> RunnableLambda[Any, Any]:
    async def later(given: Any) -> Any:
        return answer(given)

    return RunnableLambda(answer, later)


@either_way
def test_each_call_is_made_and_answered(run: Any) -> None:
    double = calling(lambda n: 2 * n)

    def flow(_: Any) -> Flow:
        first = yield Call(double, 3)
        second = yield Call(double, first)
        return {"messages": [first, second]}

    assert run(Driven(flow, name="double")) == {"messages": [6, 12]}


@either_way
def test_a_flow_may_ask_nothing(run: Any) -> None:
    def flow(_: Any) -> Flow:
        return {"head": "x"}
        yield

    assert run(Driven(flow, name="nothing")) == {"head": "x"}


@either_way
def test_a_failed_call_is_raised(run: Any) -> None:
    def fail(_: Any) -> Any:
        raise ConnectionError("down")

    def flow(_: Any) -> Flow:
        yield Call(calling(fail), 1)
        raise AssertionError("it was never answered")

    with pytest.raises(ConnectionError, match="down"):
        run(Driven(flow, name="fails"))


@either_way
def test_an_error_of_the_flow_itself_is_raised(run: Any) -> None:
    def flow(_: Any) -> Flow:
        yield Call(calling(lambda n: n), 1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(Driven(flow, name="raises"))


def test_async_keeps_what_is_not_a_call_off_the_event_loop() -> None:
    threads = []

    def flow(_: Any) -> Flow:
        threads.append(threading.current_thread())
        yield Call(calling(lambda _: threads.append(threading.current_thread())), 1)
        threads.append(threading.current_thread())
        return {}

    not_sync(Driven(flow, name="where"))
    before, during, after = threads
    assert during is threading.main_thread()
    assert threading.main_thread() not in {before, after}
