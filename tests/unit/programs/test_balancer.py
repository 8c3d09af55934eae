"""The balancer as its clients see it: a real process, a real stream, a scripted Kubernetes API."""

from __future__ import annotations

import contextlib
import queue
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pytest_grpclb import programs
from pytest_grpclb._pb import load_balancer_pb2 as pb

from .conftest import CLIENT_OPTIONS, DEADLINE_S, Program
from .scripted_api import ScriptedApi, Watched, lists, refuses
from .test_balancer_endpoints import endpoint, endpoint_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ONE = endpoint_slice("one", endpoint("10.0.0.1", "uid-1"))
TWO = endpoint_slice("two", endpoint("10.0.0.2", "uid-2"))


class Stream:
    """One client's stream to a balancer."""

    def __init__(self, channel: Any, first: pb.LoadBalanceRequest) -> None:
        self._requests: queue.SimpleQueue[pb.LoadBalanceRequest | None] = queue.SimpleQueue()
        self._requests.put(first)
        balance = channel.stream_stream(
            "/grpc.lb.v1.LoadBalancer/BalanceLoad",
            request_serializer=pb.LoadBalanceRequest.SerializeToString,
            response_deserializer=pb.LoadBalanceResponse.FromString,
        )
        self.call = balance(iter(self._requests.get, None), timeout=DEADLINE_S)

    def send(self, **fields: Any) -> None:
        self._requests.put(pb.LoadBalanceRequest(**fields))

    def end(self) -> None:
        """Say no more."""
        self._requests.put(None)

    def servers(self) -> list[str]:
        """Return the next list, each server as token@address:port."""
        response = next(self.call)
        assert response.WhichOneof("load_balance_response_type") == "server_list"
        return [
            f"{each.load_balance_token}@{'.'.join(map(str, each.ip_address))}:{each.port}"
            for each in response.server_list.servers
        ]


class Running:
    """A balancer, the API that it follows, and clients."""

    def __init__(self, program: Program, api: ScriptedApi, stack: contextlib.ExitStack) -> None:
        self.program, self.api = program, api
        self.watched = Watched()
        self.stack = stack
        self.channel = grpc.insecure_channel(program.address, options=CLIENT_OPTIONS)
        stack.callback(self.channel.close)
        stack.callback(self.watched.end)

    def know(self, *slices: dict[str, Any]) -> None:
        """Have the API tell it these, and go on to the events that the test sends."""
        self.api.steps.put(lists(7, *slices))
        self.api.steps.put(self.watched)

    def client(self, name: str = "shop:8080") -> Stream:
        """Open a stream, and read what comes before the first list."""
        first = pb.LoadBalanceRequest(initial_request=pb.InitialLoadBalanceRequest(name=name))
        stream = self.open(first)
        response = next(stream.call)
        assert response.WhichOneof("load_balance_response_type") == "initial_response"
        interval = response.initial_response.client_stats_report_interval
        assert (interval.seconds, interval.nanos) == (1, 0)
        return stream

    def open(self, first: pb.LoadBalanceRequest) -> Stream:
        stream = Stream(self.channel, first)
        self.stack.callback(stream.call.cancel)
        self.stack.callback(stream.end)
        return stream

    def health(self, service: str) -> Iterator[int]:
        """Yield the states of a service as they change."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        request = health_pb2.HealthCheckRequest(service=service)
        call = stub.Watch(request, timeout=DEADLINE_S)
        self.stack.callback(call.cancel)
        for response in call:
            yield response.status


@pytest.fixture
def balancer(start_program: Callable[..., Program], tmp_path: Path) -> Iterator[Running]:
    api = ScriptedApi(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(api.close)
        program = start_program(
            "balancer",
            "--port=0",
            "--service=shop",
            KUBERNETES_SERVICE_HOST="127.0.0.1",
            KUBERNETES_SERVICE_PORT=str(api.port),
            GRPCLB_SERVICEACCOUNT_DIR=str(tmp_path),
        )
        yield Running(program, api, stack)


def test_a_client_is_told_how_often_to_report_and_then_its_servers(balancer: Running) -> None:
    balancer.know(ONE, TWO)
    client = balancer.client()
    assert client.servers() == ["uid-1@10.0.0.1:50051", "uid-2@10.0.0.2:50051"]
    request = balancer.api.request()
    assert request["path"] == "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices"
    assert request["labelSelector"] == "kubernetes.io/service-name=shop"


def test_every_client_is_told_of_every_change(balancer: Running) -> None:
    balancer.know(ONE)
    clients = [balancer.client("a:1"), balancer.client("b:2")]
    for client in clients:
        assert client.servers() == ["uid-1@10.0.0.1:50051"]
    balancer.watched.send("ADDED", TWO, 8)
    for client in clients:
        assert client.servers() == ["uid-1@10.0.0.1:50051", "uid-2@10.0.0.2:50051"]
    balancer.watched.send("MODIFIED", endpoint_slice("one"), 9)
    balancer.watched.send("MODIFIED", endpoint_slice("two"), 10)
    for client in clients:
        # Two changes in a row may reach a client as one.
        told = client.servers()
        assert told in (["uid-2@10.0.0.2:50051"], [])
        if told:
            assert client.servers() == []


def test_a_change_is_pushed_without_waiting_for_the_next(balancer: Running) -> None:
    balancer.know()
    client = balancer.client()
    assert client.servers() == []
    for revision in range(8, 28):
        change = "ADDED" if revision % 2 == 0 else "DELETED"
        balancer.watched.send(change, ONE, revision)
        assert client.servers() == (["uid-1@10.0.0.1:50051"] if change == "ADDED" else [])


def test_a_client_that_comes_before_the_servers_are_known_waits(balancer: Running) -> None:
    balancer.api.steps.put(refuses(403, "no"))
    client = balancer.client()
    balancer.know(ONE)
    assert client.servers() == ["uid-1@10.0.0.1:50051"]


def test_it_is_ready_once_it_knows_the_servers(balancer: Running) -> None:
    states = balancer.health("grpc.lb.v1.LoadBalancer")
    assert next(states) == NOT_SERVING
    assert next(balancer.health("")) == SERVING  # it lives, though: a restart would not help
    balancer.know()
    assert next(states) == SERVING


def test_what_clients_report_is_added_up_and_shown(balancer: Running) -> None:
    balancer.know(ONE)
    client = balancer.client("shop.team.svc:8080")
    drop = pb.ClientStatsPerToken(load_balance_token="uid-1", num_calls=3)
    client.send(client_stats=pb.ClientStats())  # nothing happened: nothing is said
    client.send(
        client_stats=pb.ClientStats(
            num_calls_started=10,
            num_calls_finished=8,
            num_calls_finished_known_received=7,
            num_calls_finished_with_client_failed_to_send=1,
        )
    )
    balancer.program.wait_for_log(
        r"client ipv4:127\.0\.0\.1:\d+ of 'shop\.team\.svc:8080': 10 calls started, 8 finished, 7 "
        r"known to be received by a server, 1 not sent, dropped: none\n"
    )
    client.send(
        client_stats=pb.ClientStats(
            num_calls_started=5, num_calls_finished=7, calls_finished_with_drop=[drop]
        )
    )
    client.end()
    balancer.program.wait_for_log(
        r"'shop\.team\.svc:8080': went; 15 calls started, 15 finished, 7 known to be received by a "
        r"server, 1 not sent, dropped: 3 by 'uid-1'\n"
    )
    assert balancer.program.log.count("calls started") == 3


def test_a_stream_that_begins_with_something_else_is_refused(balancer: Running) -> None:
    stream = balancer.open(pb.LoadBalanceRequest(client_stats=pb.ClientStats()))
    with pytest.raises(grpc.RpcError) as caught:
        next(stream.call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        "the first request is 'client_stats'; expected initial_request"
    )


def test_told_to_end_it_ends_the_streams_in_good_order(balancer: Running) -> None:
    balancer.know(ONE)
    client = balancer.client()
    assert client.servers() == ["uid-1@10.0.0.1:50051"]
    balancer.program.process.send_signal(signal.SIGTERM)
    with pytest.raises(StopIteration):
        next(client.call)
    assert client.call.code() is grpc.StatusCode.OK
    assert balancer.program.exit_code() == 0


def test_told_to_end_it_does_not_wait_for_an_api_that_is_away(balancer: Running) -> None:
    balancer.client()
    balancer.program.process.send_signal(signal.SIGTERM)
    assert balancer.program.exit_code() == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--port=1"], "the following arguments are required: --service"),
        (
            ["--service=a", "--report-interval-s=0.5"],
            "argument --report-interval-s: '0.5' cannot be used; expected seconds, 1 to 3600, or 0",
        ),
        (
            ["--service=a", "--report-interval-s=often"],
            "argument --report-interval-s: 'often' cannot be used; expected seconds, 1 to 3600, "
            "or 0",
        ),
    ],
)
def test_misused_flags_are_told(
    capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert programs.main(["balancer", *flags]) == 2
    assert capsys.readouterr().err.endswith(f"balancer: error: {told}\n")
