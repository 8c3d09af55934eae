"""What a run has told is kept until it has arrived."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs.journal import Journal


def told(number: int) -> driver_pb2.RunResponse:
    return driver_pb2.RunResponse(started=driver_pb2.Started(clock_s=number))


async def rest(journal: Journal, taken: int) -> list[float]:
    return [response.started.clock_s async for response in journal.follow(taken)]


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(0, 10))
def test_whoever_asks_for_the_rest_gets_all_that_was_not_said_to_have_arrived(
    takes: list[int], wanted: int
) -> None:
    async def play() -> None:
        journal = Journal()
        for number in range(10):
            journal.write(told(number))
        journal.end()
        for taken in takes:
            journal.forget(taken)
        if wanted < min(10, max(takes, default=0)):
            with pytest.raises(LookupError):
                await rest(journal, wanted)
        else:
            assert await rest(journal, wanted) == list(range(wanted, 10))

    asyncio.run(play())


def test_a_second_reader_ends_the_first_who_waits() -> None:
    async def play() -> None:
        journal = Journal()
        journal.write(told(0))
        first = asyncio.create_task(rest(journal, 0))
        await asyncio.sleep(0)
        second = asyncio.create_task(rest(journal, 0))
        assert await first == [0]
        journal.write(told(1))
        journal.end()
        assert await second == [0, 1]

    asyncio.run(play())


def test_what_went_wrong_is_raised_to_every_reader_after_the_rest() -> None:
    async def play() -> None:
        journal = Journal()
        journal.write(told(0))
        journal.end(ZeroDivisionError("no calls"))
        for taken in (0, 1):
            with pytest.raises(ZeroDivisionError, match="no calls"):
                await rest(journal, taken)

    asyncio.run(play())


@pytest.mark.parametrize("taken", [2, 100])
def test_who_has_taken_more_than_there_is_hears_so(taken: int) -> None:
    async def play() -> None:
        journal = Journal()
        journal.write(told(0))
        with pytest.raises(LookupError, match=rf"response {taken} is not there, only 0 to 1"):
            await rest(journal, taken)

    asyncio.run(play())


def test_a_reader_that_waits_is_told_at_once_of_what_comes_and_of_the_end() -> None:
    async def play() -> None:
        journal = Journal()
        told_of: list[float] = []

        async def read() -> None:
            told_of.extend([each.started.clock_s async for each in journal.follow(0)])
            told_of.append(-1.0)

        async def until_it_waits() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        reader = asyncio.create_task(read())
        first = journal.follow(0)
        await until_it_waits()
        assert not reader.done()  # nothing has been said yet, nor that nothing will be
        waiting = asyncio.ensure_future(anext(first))
        await until_it_waits()
        journal.write(told(0))
        assert (await asyncio.wait_for(waiting, 5)).started.clock_s == 0
        more = asyncio.ensure_future(anext(first))
        await until_it_waits()
        journal.end()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(more, 5)
        await asyncio.wait_for(reader, 5)  # who was followed by another one ends as well

    asyncio.run(play())


def test_responses_are_counted_whether_or_not_they_are_kept() -> None:
    journal = Journal()
    for number in range(3):
        journal.write(told(number))
    journal.forget(2)
    assert len(journal) == 3
    journal.forget(100)  # more than there were
    assert len(journal) == 3
    journal.write(told(3))
    assert len(journal) == 4
