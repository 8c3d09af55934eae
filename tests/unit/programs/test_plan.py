from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs.plan import PlanError, checked, checked_exchange

from .conftest import plan_for


def check(**fields: Any) -> driver_pb2.Plan:
    return checked(driver_pb2.RunRequest(plan=plan_for(["127.0.0.1:1"], **fields)))


def call(**fields: Any) -> driver_pb2.Call:
    return driver_pb2.Call(**{"method": "/a.B/C", "timeout_s": 1.0, **fields})


def argument(**fields: Any) -> list[driver_pb2.ChannelArgument]:
    return [
        driver_pb2.ChannelArgument(name="fine", int_value=1),
        driver_pb2.ChannelArgument(**fields),
    ]


def test_a_plan_gets_its_defaults_and_the_request_is_left_as_it_was() -> None:
    request = driver_pb2.RunRequest(
        plan=plan_for(["127.0.0.1:1"], open=driver_pb2.Open(rate_per_s=10))
    )
    plan = checked(request)
    assert plan.report_interval_s == 0.05
    assert plan.open.max_in_flight == 1000
    assert request.plan.report_interval_s == 0
    assert request.plan.open.max_in_flight == 0


def test_what_a_plan_chooses_is_kept() -> None:
    plan = check(report_interval_s=2, open=driver_pb2.Open(rate_per_s=0.5, max_in_flight=3))
    assert plan.report_interval_s == 2
    assert plan.open.max_in_flight == 3


def test_a_warm_up_of_no_backends_needs_no_key() -> None:
    warm_up = driver_pb2.WarmUp(backends=0, timeout_s=1)
    assert check(call=call(), warm_up=warm_up).warm_up == warm_up


@pytest.mark.parametrize(
    ("request_", "seen"),
    [
        (driver_pb2.RunRequest(), "None"),
        (driver_pb2.RunRequest(stop=driver_pb2.Stop()), "'stop'"),
    ],
)
def test_a_run_begins_with_a_plan(request_: driver_pb2.RunRequest, seen: str) -> None:
    with pytest.raises(PlanError) as raised:
        checked(request_)
    assert str(raised.value) == f"request: {seen} cannot be used; expected a plan first"


def streaming(**stream: Any) -> driver_pb2.Call:
    return call(backend_key="pod-uid", stream=driver_pb2.Stream(**stream))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"target": ""},
            "target: '' cannot be used; expected a gRPC target, such as dns:///name:port",
        ),
        (
            {"call": call(allowed_status=[17])},
            "call.allowed_status[0]: 17 cannot be used; expected 1 to 16",
        ),
        (
            {"call": call(attributions=[driver_pb2.Attribution()])},
            "call.attributions[0]: None cannot be used; expected header, peer or field",
        ),
        (
            {"call": call(attributions=[driver_pb2.Attribution(header="X-Pod")])},
            "call.attributions[0].header: 'X-Pod' cannot be used; expected lower-case letters, "
            "digits, _ . -",
        ),
        (
            {"call": call(attributions=[driver_pb2.Attribution(field=driver_pb2.Field())])},
            "call.attributions[0].field.numbers: [] cannot be used; expected the numbers of 1 "
            "field or more",
        ),
        ({"channels": 0}, "channels: 0 cannot be used; expected 1 to 1024"),
        ({"channels": 1025}, "channels: 1025 cannot be used; expected 1 to 1024"),
        (
            {"service_config": "{round_robin"},
            "service_config: '{round_robin' cannot be used; expected a JSON object",
        ),
        (
            {"service_config": "[]"},
            "service_config: '[]' cannot be used; expected a JSON object",
        ),
        (
            {"arguments": argument(name="", int_value=1)},
            "arguments[1].name: '' cannot be used; expected a channel argument's name",
        ),
        (
            {"arguments": argument(name="grpc.x")},
            "arguments[1].value: None cannot be used; expected a value for 'grpc.x'",
        ),
        (
            {"arguments": argument(name="grpc.x", int_value=2**31)},
            "arguments[1].int_value: 2147483648 cannot be used; expected -2147483648 to 2147483647",
        ),
        (
            {"credentials": driver_pb2.Credentials(root_certificates=b"oops")},
            "credentials.root_certificates: '4 bytes' cannot be used; expected PEM",
        ),
        (
            {"credentials": driver_pb2.Credentials(private_key=b"-----BEGIN PRIVATE KEY-----")},
            "credentials: 'private_key alone' cannot be used; "
            "expected both for mutual TLS, or neither",
        ),
        (
            {"call": call(method="SayHello")},
            "call.method: 'SayHello' cannot be used; expected /package.Service/Method",
        ),
        (
            {"call": call(timeout_s=0)},
            "call.timeout_s: 0.0 cannot be used; expected 0.001 to 86400 s",
        ),
        (
            {"call": call(timeout_s=math.nan)},
            "call.timeout_s: nan cannot be used; expected 0.001 to 86400 s",
        ),
        (
            {"call": call(metadata=[driver_pb2.Metadata(key="Upper", value="v")])},
            "call.metadata[0].key: 'Upper' cannot be used; "
            "expected lower-case letters, digits, _ . -; no -bin",
        ),
        (
            {"call": call(metadata=[driver_pb2.Metadata(key="key", value="a\nb")])},
            "call.metadata[0].value: 'a\\nb' cannot be used; expected printable ASCII",
        ),
        (
            {"call": call(backend_key="Pod UID")},
            "call.backend_key: 'Pod UID' cannot be used; "
            "expected lower-case letters, digits, _ . -",
        ),
        (
            {"call": call(backend_key=""), "warm_up": driver_pb2.WarmUp(backends=3)},
            "call.backend_key: '' cannot be used; expected a key, since warm_up.backends is 3",
        ),
        (
            {"warm_up": driver_pb2.WarmUp(timeout_s=-1)},
            "warm_up.timeout_s: -1.0 cannot be used; expected 0 to 86400 s",
        ),
        (
            {"closed": driver_pb2.Closed()},
            "closed.concurrency: 0 cannot be used; expected 1 to 100000",
        ),
        (
            {"open": driver_pb2.Open()},
            "open.rate_per_s: 0.0 cannot be used; expected 0.001 to 1000000",
        ),
        (
            {"open": driver_pb2.Open(rate_per_s=1, max_in_flight=100_001)},
            "open.max_in_flight: 100001 cannot be used; expected 1 to 100000",
        ),
        (
            {"call": streaming(interval_s=1)},
            "call.stream.interval_s: 1.0 cannot be used; "
            "expected 0, since the client of a server stream sends one message",
        ),
        (
            {"call": streaming(bidirectional=True, interval_s=-1)},
            "call.stream.interval_s: -1.0 cannot be used; expected 0.001 to 86400 s",
        ),
        (
            {"call": streaming(bidirectional=True, messages=2)},
            "call.stream.interval_s: 0.0 cannot be used; "
            "expected a pace, since call.stream.messages is 2",
        ),
        (
            {"call": streaming(duration_s=math.inf)},
            "call.stream.duration_s: inf cannot be used; expected 0.001 to 86400 s",
        ),
        (
            {"call": streaming(), "calls": 30},
            "calls: 30 cannot be used; expected 0, since the streams have no end "
            "(call.stream.messages, .duration_s)",
        ),
        (
            {"call": streaming(), "calls": 0, "open": driver_pb2.Open(rate_per_s=1)},
            "load: 'open' cannot be used; expected closed, since the streams have no end "
            "(call.stream.messages, .duration_s)",
        ),
        (
            {"report_interval_s": math.inf},
            "report_interval_s: inf cannot be used; expected 0.001 to 86400 s",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value_and_limit(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError) as raised:
        check(**fields)
    assert str(raised.value) == message


def test_a_plan_without_a_load_is_refused() -> None:
    plan = plan_for(["127.0.0.1:1"])
    plan.ClearField("closed")
    with pytest.raises(PlanError) as raised:
        checked(driver_pb2.RunRequest(plan=plan))
    assert str(raised.value) == "load: None cannot be used; expected closed or open"


def test_an_exchange_is_of_one_channel_and_needs_no_load() -> None:
    plan = plan_for(["127.0.0.1:1"], call=call())
    plan.ClearField("closed")
    assert checked_exchange(plan) == plan
    plan.channels = 2
    with pytest.raises(PlanError, match=r"^channels: 2 cannot be used; expected 1$"):
        checked_exchange(plan)
