from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from pytest_grpclb._pb import driver_pb2

from .conftest import CLIENT_OPTIONS, DEADLINE_S, Program, Run, addresses, named, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Backend


@pytest.mark.parametrize("load", ["closed", "open"])
def test_stop_lets_calls_in_flight_finish_and_reports_them(
    start_backend: Callable[..., Backend],
    start_run: Callable[..., Run],
    load: str,
) -> None:
    answer = threading.Event()

    def behave(context: Any) -> bytes:
        answer.wait(DEADLINE_S)
        return named("slow")(context)

    backend = start_backend(behave)
    loads = {
        "closed": driver_pb2.Closed(concurrency=3),
        "open": driver_pb2.Open(rate_per_s=1000, max_in_flight=3),
    }
    plan = plan_for([backend.address], calls=0, **{load: loads[load]})
    plan.ClearField("warm_up")
    run = start_run(plan)
    backend.wait_for(lambda: backend.in_flight == 3)
    run.stop()
    run.read_until(lambda: run.started.clock_s)
    answer.set()
    run.finish()
    assert run.finished.error == ""
    assert run.finished.calls == len(run.rows.sequence) == backend.calls
    assert run.counts == {"slow": backend.calls}


def test_stop_ends_a_warm_up_that_waits(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    held = threading.Event()

    def behave(_context: Any) -> bytes:
        held.wait(DEADLINE_S)
        return b""

    backend = start_backend(behave)
    run = start_run(plan_for([backend.address]))
    backend.wait_for(lambda: backend.in_flight == 1)
    run.stop()
    run.finish()
    assert list(run.started.backends_seen) == [0]
    assert run.finished == driver_pb2.Finished(calls=0)
    held.set()


def test_a_warm_up_that_runs_out_of_time_says_what_it_saw(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    backend = start_backend(named("only"))
    warm_up = driver_pb2.WarmUp(backends=2, timeout_s=1)
    run = start_run(plan_for([backend.address], warm_up=warm_up)).finish()
    assert list(run.started.backends_seen) == [1]
    assert 1 <= run.started.warm_up_s < DEADLINE_S
    assert run.finished.calls == 30


def test_a_warm_up_in_which_calls_fail_says_how(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    def behave(context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        raise AssertionError

    backend = start_backend(behave)
    warm_up = driver_pb2.WarmUp(backends=1, timeout_s=1)
    run = start_run(plan_for([backend.address], warm_up=warm_up)).finish()
    assert run.started.warm_up_error == "FAILED_PRECONDITION: not today"


def test_a_cancelled_run_cancels_its_calls_and_the_driver_goes_on(
    start_backend: Callable[..., Backend],
    start_run: Callable[..., Run],
    start_program: Callable[..., Program],
) -> None:
    driver = start_program("driver", "--port=0")
    released = threading.Event()
    cancelled = threading.Semaphore(0)

    def behave(context: Any) -> bytes:
        context.add_callback(cancelled.release)
        released.wait(DEADLINE_S)
        return b""

    backend = start_backend(behave)
    plan = plan_for([backend.address], calls=0)
    plan.ClearField("warm_up")
    run = start_run(plan, driver.address)
    backend.wait_for(lambda: backend.in_flight == 4)
    run.close()
    for _ in range(4):
        assert cancelled.acquire(timeout=DEADLINE_S)
    released.set()
    again = plan_for([backend.address], calls=5)
    again.ClearField("warm_up")
    assert start_run(again, driver.address).finish().finished.calls == 5
    driver.process.terminate()
    assert driver.exit_code() == 0
    assert "Traceback" not in driver.log
    assert "ERROR" not in driver.log


def test_a_cancelled_run_closes_its_connections(
    start_program: Callable[..., Program], start_run: Callable[..., Run]
) -> None:
    greeter = start_program("greeter", "--port=0", POD_UID="one")
    run = start_run(plan_for([greeter.address], channels=3, calls=0))
    run.read_until(lambda: run.rows.sequence)
    with grpc.insecure_channel(greeter.address, options=CLIENT_OPTIONS) as channel:
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        (server,) = stub.GetServers(channelz_pb2.GetServersRequest()).server
        wanted = channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id)

        def connections() -> int:
            return len(stub.GetServerSockets(wanted, timeout=DEADLINE_S).socket_ref)

        assert connections() == 4  # one each channel, and the one that asks
        run.close()
        until_s = time.monotonic() + DEADLINE_S
        while connections() > 1:
            assert time.monotonic() < until_s


def test_sigterm_stops_a_run_which_says_so(
    greeters: list[Program],
    start_program: Callable[..., Program],
    start_run: Callable[..., Run],
) -> None:
    driver = start_program("driver", "--port=0")
    run = start_run(plan_for(addresses(greeters), calls=0), driver.address)
    run.read_until(lambda: run.rows.sequence)
    driver.process.terminate()
    run.finish()
    assert run.finished.error == "the driver was told to end (SIGTERM)"
    assert run.finished.calls == len(run.rows.sequence)
    assert driver.exit_code() == 0


def test_a_second_plan_ends_the_run(greeters: list[Program], start_run: Callable[..., Run]) -> None:
    plan = plan_for(addresses(greeters), calls=0)
    run = start_run(plan)
    run.send(driver_pb2.RunRequest(plan=plan))
    run.finish()
    assert run.finished.error == ("request: 'plan' cannot be used; expected stop, taken or cancel")
