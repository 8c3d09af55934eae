from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pytest_grpclb._pb import helloworld_pb2

from .conftest import CLIENT_OPTIONS, DEADLINE_S, METHOD, ROUND_ROBIN, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import DnsServer


@pytest.fixture
def dial() -> Iterator[Callable[..., Any]]:
    """Return channels that are closed when the test ends."""
    channels = []

    def dial(target: str, *options: tuple[str, Any]) -> Any:
        channels.append(grpc.insecure_channel(target, options=(*CLIENT_OPTIONS, *options)))
        return channels[-1]

    yield dial
    for channel in channels:
        channel.close()


def say_hello(channel: Any) -> Any:
    return channel.unary_unary(
        METHOD,
        request_serializer=helloworld_pb2.HelloRequest.SerializeToString,
        response_deserializer=helloworld_pb2.HelloReply.FromString,
    )


def greet(channel: Any, name: str = "you") -> tuple[str, dict[str, str]]:
    reply, call = say_hello(channel).with_call(
        helloworld_pb2.HelloRequest(name=name), timeout=DEADLINE_S, wait_for_ready=True
    )
    return reply.message, dict(call.initial_metadata())


def test_it_greets_from_its_pod_and_names_itself_in_initial_metadata(
    greeters: list[Program], dial: Callable[..., Any]
) -> None:
    message, metadata = greet(dial(greeters[1].address), "Ada")
    assert message == "Hello Ada from pod-b"
    assert metadata["grpclb-backend"] == "uid-b"
    assert metadata["grpclb-backend-name"] == "pod-b"


def test_its_identity_is_in_the_answers_of_every_service(
    greeters: list[Program], dial: Callable[..., Any]
) -> None:
    check = health_pb2_grpc.HealthStub(dial(greeters[0].address)).Check
    _, call = check.with_call(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert dict(call.initial_metadata())["grpclb-backend"] == "uid-a"


def test_a_stream_of_replies_goes_on_until_the_client_has_enough(
    start_program: Callable[..., Program], dial: Callable[..., Any]
) -> None:
    greeter = start_program("greeter", "--port=0", "--stream-interval-ms=1", POD_NAME="pod-s")
    greetings = dial(greeter.address).unary_stream(
        "/helloworld.Greeter/SayHelloStreamReply",
        response_deserializer=helloworld_pb2.HelloReply.FromString,
    )(helloworld_pb2.HelloRequest(name="Ada").SerializeToString(), timeout=DEADLINE_S)
    assert [next(greetings).message for _ in range(3)] == ["Hello Ada from pod-s"] * 3
    assert dict(greetings.initial_metadata())["grpclb-backend"] == "pod-s"
    greetings.cancel()


def test_each_request_of_a_bidirectional_stream_is_answered(
    greeters: list[Program], dial: Callable[..., Any]
) -> None:
    greetings = dial(greeters[2].address).stream_stream(
        "/helloworld.Greeter/SayHelloBidiStream",
        response_deserializer=helloworld_pb2.HelloReply.FromString,
    )(
        (helloworld_pb2.HelloRequest(name=name).SerializeToString() for name in ("Ada", "Eve")),
        timeout=DEADLINE_S,
    )
    assert [each.message for each in greetings] == ["Hello Ada from pod-c", "Hello Eve from pod-c"]
    metadata = dict(greetings.initial_metadata())
    assert metadata["grpclb-backend-name"] == "pod-c"
    assert metadata["grpclb-transport"] == "plaintext"


@pytest.mark.parametrize("service", ["", "helloworld.Greeter"])
def test_it_says_that_it_serves(
    greeters: list[Program], dial: Callable[..., Any], service: str
) -> None:
    check = health_pb2_grpc.HealthStub(dial(greeters[0].address)).Check
    answer = check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_its_services(greeters: list[Program], dial: Callable[..., Any]) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(dial(greeters[0].address))
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=DEADLINE_S)
    assert [service.name for service in answer.list_services_response.service] == [
        "grpc.channelz.v1.Channelz",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "helloworld.Greeter",
    ]


def test_channelz_tells_of_its_connections(
    greeters: list[Program], dial: Callable[..., Any]
) -> None:
    stub = channelz_pb2_grpc.ChannelzStub(dial(greeters[0].address))
    servers = stub.GetServers(channelz_pb2.GetServersRequest(), timeout=DEADLINE_S).server
    assert len(servers) == 1
    sockets = stub.GetServerSockets(
        channelz_pb2.GetServerSocketsRequest(server_id=servers[0].ref.server_id),
        timeout=DEADLINE_S,
    )
    assert len(sockets.socket_ref) >= 1  # the one that asks


def test_without_pod_environment_it_names_itself_by_host_name(
    start_program: Callable[..., Program], dial: Callable[..., Any]
) -> None:
    program = start_program("greeter", "--port=0", POD_NAME="only-a-name")
    message, metadata = greet(dial(program.address))
    assert message == "Hello you from only-a-name"
    assert metadata["grpclb-backend"] == "only-a-name"


def test_two_pods_may_have_the_same_port_at_addresses_of_their_own(
    start_program: Callable[..., Program], dial: Callable[..., Any]
) -> None:
    first = start_program("greeter", "--port=0", POD_NAME="first")
    port = first.address.rpartition(":")[2]
    second = start_program(
        "greeter", f"--port={port}", POD_NAME="second", GRPCLB_LISTEN_IP="127.0.0.2"
    )
    assert second.address == f"127.0.0.2:{port}"
    assert greet(dial(first.address))[0] == "Hello you from first"
    assert greet(dial(second.address))[0] == "Hello you from second"


def test_unless_told_it_listens_on_all_addresses(
    start_program: Callable[..., Program], dial: Callable[..., Any]
) -> None:
    program = start_program("greeter", "--port=0", POD_NAME="all", GRPCLB_LISTEN_IP="")
    host, _, port = program.address.rpartition(":")
    assert host in {"[::]", "0.0.0.0"}
    assert greet(dial(f"127.0.0.3:{port}"))[0] == "Hello you from all"


def test_a_connection_that_reaches_its_age_is_closed_and_calls_go_on(
    start_program: Callable[..., Program], dial: Callable[..., Any]
) -> None:
    program = start_program(
        "greeter",
        "--port=0",
        GRPC_MAX_CONNECTION_AGE="0.2",
        GRPC_MAX_CONNECTION_AGE_GRACE="0.2",
    )
    channel = dial(program.address)
    left = threading.Event()
    states = []

    def watch(state: grpc.ChannelConnectivity) -> None:
        states.append(state)
        if grpc.ChannelConnectivity.READY in states[:-1] and state is not states[-2]:
            left.set()

    channel.subscribe(watch)
    greet(channel)
    assert left.wait(DEADLINE_S), states
    assert greet(channel)[0].startswith("Hello you from ")


def test_a_call_in_flight_at_sigterm_is_answered(
    start_program: Callable[..., Program], dial: Callable[..., Any]
) -> None:
    program = start_program("greeter", "--port=0", "--delay-ms=500", POD_NAME="slow")
    channel = dial(program.address)
    health = health_pb2_grpc.HealthStub(channel)
    call = say_hello(channel).future(
        helloworld_pb2.HelloRequest(name="you"), timeout=DEADLINE_S, wait_for_ready=True
    )
    # Calls of one connection arrive in order: the greeter has the first when it answers this one.
    health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True)
    program.process.terminate()
    program.wait_for_log("told to end")
    assert call.result().message == "Hello you from slow"
    assert program.exit_code() == 0
    assert program.log.endswith("INFO drained\n")


def test_at_sigterm_it_says_that_it_no_longer_serves(
    start_program: Callable[..., Program], dial: Callable[..., Any]
) -> None:
    program = start_program("greeter", "--port=0", GRPCLB_DRAIN_S="0.3")
    health = health_pb2_grpc.HealthStub(dial(program.address))
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    program.process.terminate()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError):  # the stream outlives the drain, and is cut
        next(watch)
    assert program.exit_code() == 0


def test_clients_that_look_the_name_up_again_leave_without_a_failed_call(
    start_program: Callable[..., Program], dial: Callable[..., Any], dns_server: DnsServer
) -> None:
    environment = {"GRPC_MAX_CONNECTION_AGE": "0.3", "GRPC_MAX_CONNECTION_AGE_GRACE": "5"}
    first = start_program("greeter", "--port=0", POD_NAME="first", **environment)
    port = first.address.rpartition(":")[2]
    start_program(
        "greeter",
        f"--port={port}",
        POD_NAME="second",
        GRPCLB_LISTEN_IP="127.0.0.2",
        **environment,
    ).wait_for_log("listening on")
    dns_server.addresses["greeter.test"] = ["127.0.0.1", "127.0.0.2"]
    channel = dial(
        f"dns://{dns_server.address}/greeter.test:{port}",
        ("grpc.service_config", ROUND_ROBIN),
        ("grpc.dns_min_time_between_resolutions_ms", 50),
    )
    greeted = {greet(channel)[0] for _ in range(20)}
    assert greeted == {"Hello you from first", "Hello you from second"}

    dns_server.addresses["greeter.test"] = ["127.0.0.2"]
    first.process.terminate()
    for _ in itertools.takewhile(lambda _: first.process.poll() is None, itertools.count()):
        greet(channel)  # raises if one call fails
    assert first.exit_code() == 0
    assert {greet(channel)[0] for _ in range(4)} == {"Hello you from second"}


@pytest.mark.parametrize(
    ("argv", "environment", "message"),
    [
        (
            ["--port=0"],
            {"GRPC_MAX_CONNECTION_AGE": "5s"},
            "greeter: GRPC_MAX_CONNECTION_AGE='5s' cannot be used; "
            "expected seconds, 0.001 to 2147483, or leave it unset\n",
        ),
        (
            ["--port=0"],
            {"GRPC_MAX_CONNECTION_AGE_GRACE": "0"},
            "greeter: GRPC_MAX_CONNECTION_AGE_GRACE='0' cannot be used; "
            "expected seconds, 0.001 to 2147483, or leave it unset\n",
        ),
        (
            ["--port=0"],
            {"GRPCLB_DRAIN_S": "inf"},
            "greeter: GRPCLB_DRAIN_S='inf' cannot be used; "
            "expected seconds, 0.001 to 2147483, or leave it unset\n",
        ),
        (
            ["--port=0"],
            {"GRPCLB_LISTEN_IP": "localhost"},
            "greeter: GRPCLB_LISTEN_IP='localhost' cannot be used; "
            "expected an IPv4 or IPv6 address, or leave it unset to listen on all\n",
        ),
        (
            ["--port=65536"],
            {},
            "greeter: error: argument --port: '65536' cannot be used; "
            "expected a port, 0 to 65535\n",
        ),
        (
            ["--delay-ms=-1"],
            {},
            "greeter: error: argument --delay-ms: '-1' cannot be used; "
            "expected milliseconds, 0 to 3600000\n",
        ),
    ],
)
def test_what_cannot_be_used_is_told_and_exits_with_2(
    start_program: Callable[..., Program],
    argv: list[str],
    environment: dict[str, str],
    message: str,
) -> None:
    program = start_program("greeter", *argv, **environment)
    assert program.exit_code() == 2
    assert program.log.splitlines(keepends=True)[-1] == message


def test_a_taken_port_is_told_and_exits_with_1(
    start_program: Callable[..., Program], greeters: list[Program]
) -> None:
    address = greeters[0].address
    program = start_program("greeter", f"--port={address.rpartition(':')[2]}")
    assert program.exit_code() == 1
    assert program.log.splitlines()[-1] == (
        f"greeter: cannot listen on {address}: the port is taken, "
        "or the address is not this pod's; choose another --port or GRPCLB_LISTEN_IP"
    )
