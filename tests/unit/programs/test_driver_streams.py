from __future__ import annotations

import contextlib
import time
from collections import Counter
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from pytest_grpclb._pb import driver_pb2

from .conftest import DEADLINE_S, METHOD, Program, Run, addresses, call, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER_STREAM = "/helloworld.Greeter/SayHelloStreamReply"
BIDI = "/helloworld.Greeter/SayHelloBidiStream"


def streams_for(
    backends: list[str], streams: int, *, method: str = BIDI, calls: int = 0, **stream: Any
) -> driver_pb2.Plan:
    stream.setdefault("bidirectional", method == BIDI)
    plan = plan_for(
        backends, calls=calls, call=call(method=method, stream=driver_pb2.Stream(**stream))
    )
    plan.closed.concurrency = streams
    return plan


class TestStreamsWithoutAnEnd:
    @pytest.mark.parametrize("method", [SERVER_STREAM, BIDI])
    def test_each_is_told_of_when_it_opens_and_ends_well_when_the_run_does(
        self, greeters: list[Program], start_run: Callable[..., Run], method: str
    ) -> None:
        run = start_run(streams_for(addresses(greeters), 12, method=method))
        opened = run.rows.opened
        run.read_until(lambda: len(opened.sequence) == 12)
        assert len(run.rows.sequence) == 0
        assert sorted(opened.sequence) == list(range(12))
        assert sorted(Counter(opened.backend).values()) == [4, 4, 4]
        assert all(map(float.__le__, opened.sent_s, opened.opened_s))
        run.stop()
        run.finish()
        assert run.finished == driver_pb2.Finished(calls=12)
        assert set(run.rows.status) == {0}
        assert dict(zip(run.rows.sequence, run.rows.backend, strict=True)) == dict(
            zip(opened.sequence, opened.backend, strict=True)
        )
        assert set(run.rows.messages_sent) == ({1} if method == BIDI else {0})
        assert set(run.rows.messages_received) == {1}  # the second would come after a second

    def test_a_client_that_has_a_pace_goes_on_sending(
        self, greeters: list[Program], start_run: Callable[..., Run]
    ) -> None:
        run = start_run(streams_for(addresses(greeters), 1, interval_s=0.001, messages=5, calls=1))
        run.finish()
        assert list(run.rows.messages_sent) == [5]
        assert list(run.rows.messages_received) == [5]


class TestStreamsWithAnEnd:
    def test_a_server_stream_ends_after_so_many_messages(
        self, start_program: Callable[..., Program], start_run: Callable[..., Run]
    ) -> None:
        greeter = start_program("greeter", "--port=0", "--stream-interval-ms=1", POD_UID="a")
        plan = streams_for([greeter.address], 2, method=SERVER_STREAM, messages=3, calls=6)
        run = start_run(plan).finish()
        assert run.finished == driver_pb2.Finished(calls=6)
        assert set(run.rows.status) == {0}
        assert min(run.rows.messages_received) >= 3
        assert run.counts == {"a": 6}

    @pytest.mark.parametrize("method", [SERVER_STREAM, BIDI])
    def test_one_is_opened_for_each_that_ends_after_its_time(
        self, greeters: list[Program], start_run: Callable[..., Run], method: str
    ) -> None:
        plan = streams_for(addresses(greeters), 3, method=method, duration_s=0.1, calls=9)
        run = start_run(plan).finish()
        assert run.finished == driver_pb2.Finished(calls=9)
        assert sorted(run.counts.values()) == [3, 3, 3]
        lasted_s = dict(zip(run.rows.sequence, run.rows.done_s, strict=True))
        for sequence, opened_s in zip(
            run.rows.opened.sequence, run.rows.opened.opened_s, strict=True
        ):
            # The first three end one after the other, so that later ones do not end together.
            assert lasted_s[sequence] - opened_s >= 0.1 * min(1.0, (sequence + 1) / 3)

    def test_they_come_at_a_rate_as_unary_calls_do(
        self, greeters: list[Program], start_run: Callable[..., Run]
    ) -> None:
        plan = streams_for(addresses(greeters), 1, duration_s=0.01, calls=30)
        plan.open.rate_per_s = 300
        run = start_run(plan).finish()
        assert run.finished == driver_pb2.Finished(calls=30)
        assert sorted(run.counts.values()) == [10, 10, 10]


class TestStreamsThatAreCut:
    def test_one_has_the_status_that_its_connection_died_of_and_another_takes_its_place(
        self, start_program: Callable[..., Program], start_run: Callable[..., Run]
    ) -> None:
        greeters = [start_program("greeter", "--port=0", POD_UID=uid) for uid in "xy"]
        run = start_run(streams_for(addresses(greeters), 4))
        run.read_until(lambda: len(run.rows.opened.sequence) == 4)
        victim = greeters[0]
        victim.process.kill()
        run.read_until(lambda: len(run.rows.opened.sequence) == 6)
        cut = list(zip(run.rows.sequence, run.rows.status, strict=True))
        assert sorted(sequence for sequence, _ in cut[:2]) == sorted(
            sequence
            for sequence, backend in zip(
                run.rows.opened.sequence[:4], run.rows.opened.backend[:4], strict=True
            )
            if run.rows.identities[backend] == "x"
        )
        assert {status for _, status in cut} == {grpc.StatusCode.UNAVAILABLE.value[0]}
        assert run.rows.failures[0].details
        run.stop()
        run.finish()
        assert run.finished.error == ""

    def test_an_aged_connection_takes_its_streams_with_it_only_where_it_has_a_grace(
        self, start_program: Callable[..., Program], start_run: Callable[..., Run]
    ) -> None:
        age = {"POD_UID": "x", "GRPC_MAX_CONNECTION_AGE": "0.2"}
        ageless = start_program("greeter", "--port=0", **age)
        graced = start_program("greeter", "--port=0", **age, GRPC_MAX_CONNECTION_AGE_GRACE="0.1")
        staying = start_run(streams_for([ageless.address], 1))
        cut = start_run(streams_for([graced.address], 1))
        cut.read_until(lambda: len(cut.rows.sequence) == 2)
        assert set(cut.rows.status) == {grpc.StatusCode.UNAVAILABLE.value[0]}
        staying.stop()
        staying.finish()
        assert list(staying.rows.status) == [0]
        assert staying.rows.done_s[0] - staying.rows.sent_s[0] > 0.4  # two of the others


@contextlib.contextmanager
def serving(method: str, behave: Callable[..., Any]) -> Iterator[str]:
    pool = futures.ThreadPoolExecutor(8)
    server = grpc.server(pool, options=(("grpc.so_reuseport", 0),))
    handler = grpc.stream_stream_rpc_method_handler(behave)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("helloworld.Greeter", {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
    pool.shutdown()


class TestServersThatMisbehave:
    def run(
        self,
        start_run: Callable[..., Run],
        address: str,
        *,
        timeout_s: float = DEADLINE_S,
        **stream: Any,
    ) -> Run:
        plan = streams_for([address], 1, calls=1, duration_s=0.05, **stream)
        plan.ClearField("warm_up")
        plan.call.timeout_s = timeout_s
        return start_run(plan).finish()

    def test_a_server_that_never_answers(self, start_run: Callable[..., Run]) -> None:
        ended = []

        def behave(requests: Any, context: Any) -> Iterator[bytes]:
            context.add_callback(lambda: ended.append(time.monotonic()))
            yield from (b"" for _ in requests if False)

        with serving("SayHelloBidiStream", behave) as address:
            run = self.run(start_run, address, timeout_s=0.2)
        [failure] = run.rows.failures
        assert failure.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert failure.details == "no answer within 0.2 s"
        assert list(run.rows.backend) == [-1]
        assert len(ended) == 1

    def test_a_server_that_does_not_end_when_the_client_has(
        self, start_run: Callable[..., Run]
    ) -> None:
        def behave(_requests: Any, context: Any) -> Iterator[bytes]:
            context.send_initial_metadata((("grpclb-backend", "x"),))
            while context.is_active():
                yield b""
                time.sleep(0.01)  # the server's pace

        with serving("SayHelloBidiStream", behave) as address:
            run = self.run(start_run, address, timeout_s=1.0)
        [failure] = run.rows.failures
        assert failure.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert failure.details == (
            "the server did not end the stream within 1 s of the client's half-close"
        )
        assert run.counts == {"x": 1}

    def test_a_server_that_ends_a_stream_at_once(self, start_run: Callable[..., Run]) -> None:
        """Here a unary method: to the client it looks like a stream of one message."""

        def behave(_requests: Any, context: Any) -> Iterator[bytes]:
            context.set_trailing_metadata((("grpclb-backend", "late"),))
            yield b"reply"

        with serving("SayHello", behave) as address:
            run = self.run(start_run, address, method=METHOD, bidirectional=True)
        assert list(run.rows.status) == [0]
        assert run.counts == {"late": 1}

    def test_one_that_ends_streams_while_the_client_goes_on_sending(
        self, start_run: Callable[..., Run]
    ) -> None:
        def behave(_requests: Any, context: Any) -> Iterator[bytes]:
            context.set_trailing_metadata((("grpclb-backend", "x"),))
            yield from [b"reply"] * 5
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "five are enough")

        with serving("SayHelloBidiStream", behave) as address:
            plan = streams_for([address], 4, interval_s=0.001, messages=100, calls=50)
            plan.ClearField("warm_up")
            run = start_run(plan).finish()
        assert {(failure.status, failure.details) for failure in run.rows.failures} == {
            (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "five are enough")
        }
        assert set(run.rows.messages_received) == {5}
        assert run.counts == {"x": 50}

    def test_a_method_that_there_is_not(
        self, greeters: list[Program], start_run: Callable[..., Run]
    ) -> None:
        run = self.run(start_run, addresses(greeters)[0], method="/helloworld.Greeter/Wave")
        assert list(run.rows.status) == [grpc.StatusCode.UNIMPLEMENTED.value[0]]
        assert len(run.rows.opened.sequence) == 0
