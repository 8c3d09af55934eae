"""Who answers, by all ways that there are, with real servers and a real driver."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc._cython import cygrpc

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs import peer
from pytest_grpclb.programs.attribution import field_of, last_of

from .conftest import Backend, Program, addresses, call, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Run

POD = driver_pb2.Attribution(peer=driver_pb2.Peer(addresses=["127.0.0.1"]))
HEADER = driver_pb2.Attribution(header="x-served-by")


def silent(_context: Any) -> bytes:
    return b""


def read(run: Run) -> tuple[Run, list[driver_pb2.Attributed]]:
    """Read a run to its end; return also what it told of attribution."""
    told: list[driver_pb2.Attributed] = []
    for response in run.stream:
        if response.HasField("attributed"):
            told.append(response.attributed)
        elif response.HasField("columns"):
            run.rows.MergeFrom(response.columns)
    return run, told


def test_the_peer_of_each_call_is_exact(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    backends = [start_backend(silent) for _ in range(3)]
    ready = [each.address for each in backends]
    run, told = read(start_run(plan_for(ready, calls=600, call=call(attributions=[HEADER, POD]))))
    assert sorted(run.counts) == sorted(ready)
    warm_up = sum(each.calls for each in backends) - 600
    assert warm_up >= 3
    # What each server counted is what the driver says of it, but for the warm-up's calls.
    assert sum(abs(each.calls - run.counts[each.address]) for each in backends) == warm_up
    assert [each.way for each in told] == ["peer of the connection"]


def test_a_peer_that_is_no_pod_names_nobody_and_the_next_way_is_taken(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    def named(context: Any) -> bytes:
        context.send_initial_metadata((("x-served-by", "10.0.0.1:80, 10.0.0.2:80"),))
        return b""

    backend = start_backend(named)
    elsewhere = driver_pb2.Attribution(peer=driver_pb2.Peer(addresses=["10.0.0.9"]))
    asked = call(attributions=[elsewhere, HEADER])
    run, told = read(start_run(plan_for([backend.address], call=asked)))
    assert run.counts == {"10.0.0.2:80": 30}
    assert [each.way for each in told] == ["response header 'x-served-by'"]


def test_a_field_of_the_reply_names_the_pod(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    backend = start_backend(lambda _context: b"\x08\x07\x2a\x05\x0a\x03uid")
    field = driver_pb2.Field(name="pod.uid", numbers=[5, 1])
    asked = call(attributions=[driver_pb2.Attribution(field=field)])
    run, told = read(start_run(plan_for([backend.address], call=asked)))
    assert run.counts == {"uid": 30}
    assert [each.way for each in told] == ["reply field 'pod.uid'"]


def test_where_nothing_names_anybody_all_that_was_tried_is_told(
    start_backend: Callable[..., Backend], start_run: Callable[..., Run]
) -> None:
    backend = start_backend(silent)
    elsewhere = driver_pb2.Attribution(peer=driver_pb2.Peer(addresses=["10.0.0.9"]))
    field = driver_pb2.Attribution(field=driver_pb2.Field(name="uid", numbers=[1]))
    asked = call(attributions=[elsewhere, field, HEADER])
    run, told = read(start_run(plan_for([backend.address], call=asked)))
    assert run.counts == {"": 30}
    assert [(each.way, list(each.tried)) for each in told] == [
        (
            "",
            [
                f"peer of the connection: {backend.address} is no pod's address",
                "reply field 'uid': empty",
                "response header 'x-served-by': absent",
            ],
        )
    ]
    assert backend.calls == 30 + 20  # warm-up does not wait for what will never be


def test_calls_send_requests_of_their_own_in_turn(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    # Health checks of a service that there is, of all, and of one that there is none of.
    requests = [b"\x0a\x12helloworld.Greeter", b"", b"\x0a\x04none"]
    asked = call(method="/grpc.health.v1.Health/Check", requests=requests, allowed_status=[5])
    plan = plan_for(addresses(greeters)[:1], calls=7, call=asked)
    plan.ClearField("warm_up")
    run = start_run(plan).finish()
    status = dict(zip(run.rows.sequence, run.rows.status, strict=True))
    assert [status[sequence] for sequence in range(7)] == [0, 0, 5, 0, 0, 5, 0]


def test_an_exchange_sends_each_request_and_returns_the_answers(
    greeters: list[Program], driver_program: Program
) -> None:
    plan = plan_for(addresses(greeters)[:1], call=call(method="/grpc.health.v1.Health/Check"))
    plan.call.requests.extend([b"", b""])
    assert exchange(driver_program, plan).responses == [b"\x08\x01", b"\x08\x01"]
    plan.call.method = "/a.B/C"
    answers = exchange(driver_program, plan)
    assert (list(answers.responses), answers.status) == ([], 12)


def exchange(driver: Program, plan: driver_pb2.Plan) -> driver_pb2.Answers:
    with grpc.insecure_channel(driver.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        answers: driver_pb2.Answers = channel.unary_unary(
            "/grpclb.driver.v1.Driver/Exchange",
            request_serializer=driver_pb2.Plan.SerializeToString,
            response_deserializer=driver_pb2.Answers.FromString,
        )(plan, timeout=20.0, wait_for_ready=True)
        return answers


# --- the pieces


def test_this_grpc_is_as_it_is_taken_for() -> None:
    assert peer.Peers().problem == ""


@pytest.mark.parametrize("names", [("GrpcCallWrapper",), ("Call",)])
def test_with_other_classes_the_peer_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    for name in names:
        monkeypatch.delattr(cygrpc, name)
    assert peer.Peers().problem == "this gRPC has other classes"


def test_with_calls_that_are_kept_otherwise_the_peer_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Larger(cygrpc.GrpcCallWrapper):  # type: ignore[misc]
        __slots__ = ("more",)

    monkeypatch.setattr(cygrpc, "GrpcCallWrapper", Larger)
    assert peer.Peers().problem == "this gRPC keeps its calls otherwise"
    monkeypatch.undo()
    monkeypatch.setattr(gc, "get_referents", lambda _each: [])
    assert peer.Peers().problem == "this gRPC keeps its calls otherwise"


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("ipv4:10.0.0.1:80", "10.0.0.1:80"),
        ("ipv6:%5Bfd00::7%5D:80", "[fd00::7]:80"),
        ("ipv6:[fd00::7]:80", "[fd00::7]:80"),
        ("unix:/tmp/x", None),
        ("unknown", None),
    ],
)
def test_a_peer_is_an_address_or_nothing(told: str, address: str | None) -> None:
    assert peer.address_of(told) == address


def test_a_field_is_found_among_all_wire_types() -> None:
    others = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x22\x01x"
    assert field_of(others + b"\x2a\x03uid", [5]) == "uid"
    assert field_of(others, [5]) is None
    assert field_of(b"\x2a\x01a\x2a\x01b", [5]) == "b"


@pytest.mark.parametrize(
    ("encoded", "told"),
    [
        (b"\x0b", "field 1 of a reply has the unknown wire type 3"),
        (b"\x88", "a reply ends within a number"),
    ],
)
def test_a_reply_that_is_not_encoded_as_it_should_be(encoded: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}$"):
        field_of(encoded, [1])


def test_the_last_of_several_places_answered() -> None:
    assert last_of("10.0.0.1:80, 10.0.0.2:80") == "10.0.0.2:80"
    assert last_of("uid") == "uid"
