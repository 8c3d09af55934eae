"""A run whose stream broke off goes on, and is heard again from where it was."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest

from pytest_grpclb._pb import driver_pb2

from .conftest import DEADLINE_S, Run, addresses, named, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Backend, Program

ENDLESS = driver_pb2.Open(rate_per_s=200)


def resume(name: str, taken: int) -> driver_pb2.Resume:
    return driver_pb2.Resume(run=name, taken=taken)


def stop(run: Run) -> None:
    run.stop()
    run.finish()


def test_all_calls_are_told_once_though_the_stream_broke_off_twice(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    first = start_run(plan_for(addresses(greeters), calls=0, open=ENDLESS, run="twice"))
    first.read_until(lambda: first.rows.sequence)
    first.take()
    first.read_until(lambda: len(first.rows.sequence) > 20)
    first.close()
    second = start_run(resume("twice", first.taken))
    second.read_until(lambda: len(second.rows.sequence) > 20)
    second.close()
    third = start_run(resume("twice", first.taken + second.taken))
    third.read_until(lambda: third.rows.sequence)
    stop(third)
    told = [sequence for run in (first, second, third) for sequence in run.rows.sequence]
    assert sorted(told) == list(range(third.finished.calls))
    assert third.finished.error == ""
    names = [name for run in (first, second, third) for name in run.rows.identities]
    assert sorted(names) == ["uid-a", "uid-b", "uid-c"]


def test_what_was_not_said_to_have_arrived_is_told_again(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    first = start_run(plan_for(addresses(greeters), calls=0, open=ENDLESS, run="again"))
    first.read_until(lambda: first.started.clock_s)
    first.take()
    first.read_until(lambda: len(first.rows.sequence) > 20)
    first.close()
    second = start_run(resume("again", 1))
    second.read_until(lambda: len(second.rows.sequence) > len(first.rows.sequence))
    told = len(first.rows.sequence)
    assert list(second.rows.sequence[:told]) == list(first.rows.sequence)
    stop(second)


def test_a_run_that_ended_unheard_is_told_to_its_end(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    backend = start_backend(named("only"))
    first = start_run(plan_for([backend.address], calls=100, open=ENDLESS, run="unheard"))
    first.read_until(lambda: first.started.clock_s)
    first.take()
    first.read_until(lambda: len(first.rows.sequence) > 20)  # it has arrived long before
    first.close()
    backend.wait_for(lambda: backend.calls >= 100)
    second = start_run(resume("unheard", first.taken)).finish()
    told = [*first.rows.sequence, *second.rows.sequence]
    assert sorted(told) == list(range(100))
    assert second.finished == driver_pb2.Finished(calls=100)


def test_a_new_listener_ends_the_one_before(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    """Its connection is dead, which the driver may never notice."""
    first = start_run(plan_for(addresses(greeters), calls=0, open=ENDLESS, run="new"))
    first.read_until(lambda: first.started.clock_s)
    first.take()
    second = start_run(resume("new", first.taken))
    first.finish()
    assert not first.finished.calls
    second.read_until(lambda: second.rows.sequence)
    stop(second)
    assert second.finished.error == ""


def test_the_plan_of_another_leaves_a_lost_run_alone(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    """Two runs of one client, whose connection broke off: one may be found again later."""
    first = start_run(plan_for(addresses(greeters), calls=0, open=ENDLESS, run="apart"))
    first.read_until(lambda: first.started.clock_s)
    first.take()
    first.read_until(lambda: len(first.rows.sequence) > 20)
    first.close()
    start_run(plan_for(addresses(greeters), calls=5, given_up=["none", ""])).finish()
    again = start_run(resume("apart", first.taken))
    again.read_until(lambda: again.rows.sequence)
    stop(again)
    assert again.finished.error == ""


def test_more_responses_than_there_are_cannot_have_been_taken(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    first = start_run(plan_for(addresses(greeters), calls=0, open=ENDLESS, run="beyond"))
    first.read_until(lambda: first.started.clock_s)
    first.take()
    first.read_until(lambda: len(first.rows.sequence) > 20)
    status = refusal(start_run(resume("beyond", 10**6)))
    assert status is not None
    assert status[0] is grpc.StatusCode.OUT_OF_RANGE
    assert status[1].startswith("response 1000000 is not there, only 1 to ")
    again = start_run(resume("beyond", first.taken))
    again.read_until(lambda: again.rows.sequence)
    stop(again)


@pytest.mark.parametrize("gone", ["cancelled", "lost before it was counted on", "given up"])
def test_a_run_that_is_not_wanted_any_more_ends(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run], gone: str
) -> None:
    backend = start_backend(named("only"))
    run = start_run(plan_for([backend.address], calls=0, open=ENDLESS, run=gone))
    run.read_until(lambda: run.rows.sequence)
    if gone != "lost before it was counted on":
        run.take()
        before = len(run.rows.sequence)
        run.read_until(lambda: len(run.rows.sequence) > before + 20)
    if gone == "cancelled":
        run.send(driver_pb2.RunRequest(cancel=driver_pb2.Cancel()))
        run.finish()
        assert not run.finished.calls
    run.close()
    if gone == "given up":
        start_run(plan_for([backend.address], calls=1, given_up=[gone])).finish()
    until_s = time.monotonic() + DEADLINE_S
    while (status := refusal(start_run(resume(gone, run.taken)))) is None:
        assert time.monotonic() < until_s
    assert status == (grpc.StatusCode.NOT_FOUND, f"there is no run {gone!r}")


def refusal(run: Run) -> tuple[grpc.StatusCode, str] | None:
    """Return how a stream was refused; None: it was not."""
    try:
        run.read_until(lambda: run.taken)
    except grpc.RpcError as error:
        return error.code(), error.details()
    finally:
        run.close()
    return None


def test_a_run_that_was_never_named_cannot_be_found(start_run: Callable[..., Run]) -> None:
    assert refusal(start_run(resume("", 0))) == (grpc.StatusCode.NOT_FOUND, "there is no run ''")


def test_a_name_is_given_once(greeters: list[Program], start_run: Callable[..., Run]) -> None:
    plan = plan_for(addresses(greeters), calls=0, open=ENDLESS, run="mine")
    first = start_run(plan)
    first.read_until(lambda: first.started.clock_s)
    assert refusal(start_run(plan)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "run: 'mine' cannot be used; expected a name that no run has had",
    )
    stop(first)
