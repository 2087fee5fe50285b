"""What many coroutines store at one moment is handed over together, and each hears what became of its own."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learngate.stores import StoreUnavailable
from learngate.stores.group_commit import GroupCommit, Outcome, Work, each_alone
from tests.stores.support import together

pytestmark = pytest.mark.anyio


class Held:
    """Writes only while it is let, and keeps how much it was handed at a time."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.handed: list[int] = []

    def write(self, works: Sequence[Work]) -> Sequence[Outcome]:
        assert self.let.wait(10)
        self.handed.append(len(works))
        return each_alone(works)


@contextmanager
def held(threads: int = 2) -> Iterator[tuple[GroupCommit, Held]]:
    writer = Held()
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield GroupCommit(pool, writer.write), writer
        finally:
            writer.let.set()


def fail(error: BaseException) -> None:
    raise error


async def test_what_comes_while_a_thread_writes_is_written_together_in_its_order():
    done = []
    with held() as (commits, writer):
        first = commits.add(partial(done.append, 0))
        await asyncio.sleep(0.05)
        rest = [commits.add(partial(done.append, number)) for number in range(1, 40)]
        writer.let.set()
        await asyncio.gather(first, *rest)
        assert writer.handed == [1, 39]
        assert done == [*range(40)]
        await commits.add(partial(done.append, 40))
    assert writer.handed == [1, 39, 1]


async def test_what_fails_fails_alone():
    with held() as (commits, writer):
        works = [partial(str, 1), partial(fail, ValueError("no")), partial(str, 3)]
        waiting = [commits.add(work) for work in works]
        writer.let.set()
        one, two, three = await asyncio.gather(*waiting, return_exceptions=True)
    assert (one, three) == ("1", "3")
    assert isinstance(two, ValueError)


async def test_a_database_out_of_reach_is_asked_no_more_for_those_who_wait():
    asked = []

    def reach(number: int) -> int:
        asked.append(number)
        if number in {1, 3, 4}:
            raise StoreUnavailable(f"out of reach for {number}")
        return number

    with held() as (commits, writer):
        waiting = [commits.add(partial(reach, number)) for number in range(8)]
        writer.let.set()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert (told[0], told[2]) == (0, 2)
        reasons = {number: str(one) for number, one in enumerate(told) if number not in {0, 2}}
        assert reasons == {
            1: "out of reach for 1",
            3: "out of reach for 3",
            **dict.fromkeys(range(4, 8), "out of reach for 4"),
        }
        assert asked == [0, 1, 2, 3, 4]
        assert await commits.add(partial(reach, 9)) == 9


async def test_who_no_longer_waits_keeps_nobody_from_hearing():
    with held() as (commits, writer):
        waiting = [commits.add(partial(str, number)) for number in range(3)]
        waiting[1].cancel()
        writer.let.set()
        assert await asyncio.gather(waiting[0], waiting[2]) == ["0", "2"]


async def test_what_is_given_up_before_its_turn_is_not_done():
    done = []
    with held() as (commits, writer):
        first = commits.add(partial(done.append, 0))
        await asyncio.sleep(0.05)
        second, third = (commits.add(partial(done.append, number)) for number in (1, 2))
        second.cancel()
        writer.let.set()
        await asyncio.gather(first, third)
    assert done == [0, 2]


@pytest.mark.parametrize(
    "error", [RuntimeError("no more threads"), StopIteration("an odd one"), KeyboardInterrupt()]
)
async def test_who_waits_hears_of_it_when_nothing_can_be_written_and_it_goes_on_afterwards(error):
    fails = [True]

    def write(works: Sequence[Work]) -> Sequence[Outcome]:
        if fails.pop() if fails else False:
            raise error
        return each_alone(works)

    with ThreadPoolExecutor(1) as pool:
        commits = GroupCommit(pool, write)
        with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
            await asyncio.wait_for(commits.add(partial(str, 1)), 10)
        assert await asyncio.wait_for(commits.add(partial(str, 2)), 10) == "2"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="shutdown"):
            await asyncio.wait_for(commits.add(partial(str, 3)), 10)


def test_loops_of_many_threads_hear_of_their_own_also_after_one_has_closed():
    with held() as (commits, writer):

        async def leave() -> None:
            commits.add(partial(str, "nobody hears this"))

        asyncio.run(leave())
        writer.let.set()

        async def ask(thread: int) -> list[str]:
            return await asyncio.gather(*[commits.add(partial(str, (thread, n))) for n in range(50)])

        heard = together(*[lambda t=t: asyncio.run(ask(t)) for t in range(6)])
    assert heard == [[str((thread, n)) for n in range(50)] for thread in range(6)]


@given(st.lists(st.sampled_from(["fine", "wrong", "lost"]), max_size=12))
def test_each_alone_tries_all_until_the_database_is_out_of_reach_twice_in_a_row(kinds):
    tried = []

    def work(number: int, kind: str) -> int:
        tried.append(number)
        if kind == "fine":
            return number
        raise StoreUnavailable("gone") if kind == "lost" else KeyError(number)

    outcomes = each_alone([partial(work, number, kind) for number, kind in enumerate(kinds)])
    without_wrong = [(number, kind) for number, kind in enumerate(kinds) if kind != "wrong"]
    end = next(
        (later for (_, one), (later, other) in pairwise(without_wrong) if one == other == "lost"), len(kinds)
    )
    assert tried == [*range(min(end + 1, len(kinds)))]
    for number, ((result, error), kind) in enumerate(zip(outcomes, kinds, strict=True)):
        expected = "lost" if number >= end else kind
        raised = {"fine": type(None), "wrong": KeyError, "lost": StoreUnavailable}[expected]
        assert (result, type(error)) == (number if expected == "fine" else None, raised)
