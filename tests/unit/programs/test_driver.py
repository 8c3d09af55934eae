from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pytest_grpclb._pb import driver_pb2

from .conftest import CLIENT_OPTIONS, DEADLINE_S, Program, Run, addresses, call, named, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Backend, DnsServer


class TestClosedLoop:
    def test_a_round_robin_channel_spreads_exactly_the_calls_asked_for(
        self, greeters: list[Program], start_run: Callable[..., Run]
    ) -> None:
        run = start_run(plan_for(addresses(greeters), calls=200)).finish()
        assert run.finished == driver_pb2.Finished(calls=200)
        assert sorted(run.rows.sequence) == list(range(200))
        assert set(run.rows.status) == {0}
        assert set(run.counts) == {"uid-a", "uid-b", "uid-c"}
        assert sorted(run.counts.values()) == [66, 67, 67]
        assert run.rebuilds == 0

    def test_what_was_seen_in_the_warm_up_is_told_and_not_counted(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        backends = [start_backend(named(uid)) for uid in ("x", "y")]
        plan = plan_for([backend.address for backend in backends], channels=2, calls=10)
        run = start_run(plan).finish()
        assert list(run.started.backends_seen) == [2, 2]
        assert run.started.warm_up_calls >= 4
        assert run.started.warm_up_error == ""
        assert sum(backend.calls for backend in backends) == run.started.warm_up_calls + 10
        assert min(run.rows.sent_s) >= run.started.clock_s

    def test_each_channel_spreads_its_own_calls(
        self, greeters: list[Program], start_run: Callable[..., Run]
    ) -> None:
        plan = plan_for(addresses(greeters), channels=4, calls=400)
        plan.closed.concurrency = 8
        run = start_run(plan).finish()
        assert set(run.rows.channel) == {0, 1, 2, 3}
        for channel in range(4):
            pairs = zip(run.rows.channel, run.rows.backend, strict=True)
            counts = Counter(backend for at, backend in pairs if at == channel)
            assert max(counts.values()) - min(counts.values()) <= 1

    def test_fewer_workers_than_channels_take_turns(
        self, greeters: list[Program], start_run: Callable[..., Run]
    ) -> None:
        plan = plan_for(addresses(greeters), channels=5, calls=50)
        plan.closed.concurrency = 2
        run = start_run(plan).finish()
        assert set(run.rows.channel) == {0, 1, 2, 3, 4}

    def test_as_many_calls_are_in_flight_as_asked_for(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        together = threading.Barrier(6)

        def behave(_context: Any) -> bytes:
            together.wait(DEADLINE_S)  # answers only when six calls wait here
            return b""

        backend = start_backend(behave)
        plan = plan_for([backend.address], calls=12)
        plan.ClearField("warm_up")
        plan.closed.concurrency = 6
        run = start_run(plan).finish()
        assert set(run.rows.status) == {0}
        assert backend.most_in_flight == 6

    def test_the_request_and_metadata_reach_the_backend(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        seen = []

        def behave(context: Any) -> bytes:
            seen.append(dict(context.invocation_metadata()).get("colour"))
            return b""

        backend = start_backend(behave)
        metadata = [driver_pb2.Metadata(key="colour", value="blue")]
        plan = plan_for([backend.address], calls=3, call=call(metadata=metadata))
        plan.ClearField("warm_up")
        start_run(plan).finish()
        assert seen == ["blue"] * 3


class TestOpenLoop:
    def test_calls_are_sent_by_a_schedule_that_the_first_one_fixes(
        self, greeters: list[Program], start_run: Callable[..., Run]
    ) -> None:
        plan = plan_for(addresses(greeters), calls=60, open=driver_pb2.Open(rate_per_s=200))
        run = start_run(plan).finish()
        rows = sorted(zip(run.rows.sequence, run.rows.sent_s, run.rows.done_s, strict=True))
        assert [sequence for sequence, _, _ in rows] == list(range(60))
        assert all(sent_s < done_s for _, sent_s, done_s in rows)
        assert all(before[1] <= after[1] for before, after in itertools.pairwise(rows))
        # Never early; the first is sent a moment after the schedule begins.
        assert all(sent_s >= rows[0][1] + n / 200 - 0.005 for n, sent_s, _ in rows)
        assert list(run.rows.done_s) == sorted(run.rows.done_s)
        assert sorted(run.counts.values()) == [20, 20, 20]

    def test_a_slow_backend_delays_no_call_after_it(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        together = threading.Barrier(10)

        def behave(_context: Any) -> bytes:
            together.wait(DEADLINE_S)  # no answer before the tenth call is here
            return b""

        backend = start_backend(behave)
        plan = plan_for([backend.address], calls=10, open=driver_pb2.Open(rate_per_s=500))
        plan.ClearField("warm_up")
        assert set(start_run(plan).finish().rows.status) == {0}

    def test_no_more_calls_are_in_flight_than_allowed_and_late_ones_are_still_sent(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        answer = threading.Event()

        def behave(_context: Any) -> bytes:
            answer.wait(DEADLINE_S)
            return b""

        backend = start_backend(behave)
        limits = driver_pb2.Open(rate_per_s=1000, max_in_flight=2)
        plan = plan_for([backend.address], calls=20, open=limits)
        plan.ClearField("warm_up")
        run = start_run(plan)
        backend.wait_for(lambda: backend.in_flight == 2)
        answer.set()
        assert run.finish().finished.calls == 20
        assert backend.most_in_flight == 2


class TestFailures:
    def test_failed_calls_are_told_with_status_and_details(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        def behave(context: Any) -> bytes:
            context.send_initial_metadata((("grpclb-backend", "broken"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")
            raise AssertionError

        backend = start_backend(behave)
        plan = plan_for([backend.address], calls=25)
        plan.ClearField("warm_up")
        run = start_run(plan).finish()
        assert list(run.rows.status) == [14] * 25
        assert run.counts == {"broken": 25}
        assert len(run.rows.failures) == 25
        assert {(failure.status, failure.details) for failure in run.rows.failures} == {
            (14, "out of order")
        }

    def test_a_call_that_nobody_answers_has_no_backend(self, start_run: Callable[..., Run]) -> None:
        plan = plan_for(["127.0.0.1:1"], calls=3, call=call(wait_for_ready=False))
        plan.ClearField("warm_up")
        run = start_run(plan).finish()
        assert list(run.rows.status) == [14, 14, 14]
        assert list(run.rows.backend) == [-1, -1, -1]

    def test_a_call_past_its_deadline_says_so(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        late = threading.Event()

        def behave(_context: Any) -> bytes:
            late.wait(DEADLINE_S)
            return b""

        backend = start_backend(behave)
        plan = plan_for([backend.address], calls=1, call=call(timeout_s=0.05))
        plan.ClearField("warm_up")
        run = start_run(plan).finish()
        late.set()
        assert list(run.rows.status) == [4]
        assert run.rows.failures[0].details == "Deadline Exceeded"

    def test_a_wrong_plan_is_refused_by_name(self, start_run: Callable[..., Run]) -> None:
        run = start_run(plan_for(["127.0.0.1:1"], channels=0))
        with pytest.raises(grpc.RpcError) as raised:
            run.finish()
        assert run.stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert run.stream.details() == "channels: 0 cannot be used; expected 1 to 1024"
        assert raised.value is run.stream


class TestIdentity:
    def test_it_may_come_in_trailing_metadata(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        def behave(context: Any) -> bytes:
            context.set_trailing_metadata((("served-by", "trailer"),))
            return b""

        backend = start_backend(behave)
        plan = plan_for([backend.address], call=call(backend_key="served-by"))
        assert start_run(plan).finish().counts == {"trailer": 30}

    def test_binary_metadata_is_told_as_hexadecimal_digits(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        def behave(context: Any) -> bytes:
            context.send_initial_metadata((("uid-bin", b"\x01\xff"),))
            return b""

        backend = start_backend(behave)
        plan = plan_for([backend.address], call=call(backend_key="uid-bin"))
        assert start_run(plan).finish().counts == {"01ff": 30}

    def test_a_backend_that_names_itself_not_at_all_still_answers(
        self, start_backend: Callable[..., Backend], start_run: Callable[..., Run]
    ) -> None:
        backend = start_backend(lambda _: b"")
        plan = plan_for([backend.address], calls=4)
        plan.ClearField("warm_up")
        run = start_run(plan).finish()
        assert run.counts == {"": 4}
        assert list(run.rows.status) == [0] * 4


def test_it_says_that_it_serves(driver_program: Program) -> None:
    with grpc.insecure_channel(driver_program.address, options=CLIENT_OPTIONS) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", "grpclb.driver.v1.Driver"):
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_tls_is_verified_against_the_plans_root(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    authority = trustme.CA()
    served = authority.issue_cert("pods.test")
    credentials = grpc.ssl_server_credentials(
        [(served.private_key_pem.bytes(), served.cert_chain_pems[0].bytes())]
    )
    backend = start_backend(named("tls"), credentials=credentials)
    name = driver_pb2.ChannelArgument(
        name="grpc.ssl_target_name_override", string_value="pods.test"
    )

    def trusting(roots: bytes) -> driver_pb2.Plan:
        given = driver_pb2.Credentials(root_certificates=roots)
        return plan_for(
            [backend.address],
            arguments=[name],
            credentials=given,
            call=call(wait_for_ready=False),
            warm_up=driver_pb2.WarmUp(backends=1, timeout_s=2),
            calls=3,
        )

    assert start_run(trusting(authority.cert_pem.bytes())).finish().counts == {"tls": 3}
    strange = trusting(trustme.CA().cert_pem.bytes())
    strange.ClearField("warm_up")
    assert start_run(strange).finish().counts == {"": 3}


def test_runs_at_the_same_time_share_no_connection(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    backend = start_backend(named("one"))
    plans = [plan_for([backend.address], calls=0, own_subchannel_pools=False) for _ in range(2)]
    runs = [start_run(plan) for plan in plans]
    first, second = runs
    first.read_until(lambda: first.rows.sequence)
    second.read_until(lambda: second.rows.sequence)
    assert len(backend.peers) == 2
    for run in runs:
        run.stop()
        assert run.finish().counts == {"one": run.finished.calls}


def test_names_are_looked_up_in_the_clusters_dns(
    start_program: Callable[..., Program],
    start_backend: Callable[..., Backend],
    start_run: Callable[..., Run],
    dns_server: DnsServer,
) -> None:
    first = start_backend(named("first"))
    port = first.address.rpartition(":")[2]
    start_backend(named("second"), host=f"127.0.0.2:{port}")
    driver = start_program("driver", "--port=0", GRPCLB_CLUSTER_DNS=dns_server.address)
    dns_server.addresses["pods.test"] = ["127.0.0.1", "127.0.0.2"]
    plan = plan_for(["", ""], target=f"dns:///pods.test:{port}")
    run = start_run(plan, driver.address).finish()
    assert run.counts == {"first": 15, "second": 15}
