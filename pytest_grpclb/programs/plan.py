"""What a plan may say: checked in full before the first call is sent."""

from __future__ import annotations

import json
import math
import re

from pytest_grpclb._pb import driver_pb2

# Far beyond what one Python process can drive; a larger number is a mistake, not a wish.
MAX_CHANNELS = 1024
MAX_IN_FLIGHT = 100_000
MAX_RATE_PER_S = 1_000_000
MAX_S = 86_400.0
MIN_REPORT_INTERVAL_S = 0.001
MAX_PLAN_BYTES = 64 * 2**20
"""Requests of their own for many calls; gRPC's own limit is 4 MB."""

_DEFAULT_IN_FLIGHT = 1000
_DEFAULT_REPORT_INTERVAL_S = 0.05
_METHOD = re.compile(r"/[^/\s]+/[^/\s]+")
_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")


class PlanError(ValueError):
    """A plan has a field whose value cannot be used."""

    def __init__(self, field: str, value: object, *, expected: str) -> None:
        super().__init__(f"{field}: {value!r} cannot be used; expected {expected}")
        self.field, self.value, self.expected = field, value, expected


def checked(request: driver_pb2.RunRequest) -> driver_pb2.Plan:
    """Return the plan of *request* with its defaults filled in.

    :raises PlanError: if the request has no plan, or a field of it cannot be used
    """
    if not request.HasField("plan"):
        raise PlanError("request", request.WhichOneof("request"), expected="a plan first")
    plan = driver_pb2.Plan()
    plan.CopyFrom(request.plan)
    plan.report_interval_s = plan.report_interval_s or _DEFAULT_REPORT_INTERVAL_S
    _within("report_interval_s", plan.report_interval_s, MIN_REPORT_INTERVAL_S, MAX_S, unit="s")
    _check_dialling(plan)
    _check_call(plan.call)
    _check_load(plan)
    if plan.call.HasField("stream"):
        _check_stream(plan)
    return plan


def checked_exchange(plan: driver_pb2.Plan) -> driver_pb2.Plan:
    """Return *plan* if its requests can be sent on one channel.

    :raises PlanError: if a field of it cannot be used
    """
    _check_dialling(plan)
    _check_call(plan.call)
    if plan.channels != 1:
        raise PlanError("channels", plan.channels, expected="1")
    return plan


def _check_dialling(plan: driver_pb2.Plan) -> None:
    if not plan.target:
        raise PlanError("target", plan.target, expected="a gRPC target, such as dns:///name:port")
    _within("channels", plan.channels, 1, MAX_CHANNELS)
    if plan.service_config:
        try:
            config = json.loads(plan.service_config)
        except ValueError as error:
            config = error
        if not isinstance(config, dict):
            raise PlanError("service_config", plan.service_config, expected="a JSON object")
    _check_arguments(plan)
    _check_credentials(plan.credentials)


def _check_arguments(plan: driver_pb2.Plan) -> None:
    for index, argument in enumerate(plan.arguments):
        where = f"arguments[{index}]"
        if not argument.name:
            raise PlanError(f"{where}.name", argument.name, expected="a channel argument's name")
        if argument.WhichOneof("value") is None:
            raise PlanError(f"{where}.value", None, expected=f"a value for {argument.name!r}")
        if argument.HasField("int_value"):  # gRPC keeps it in a C int
            _within(f"{where}.int_value", argument.int_value, -(2**31), 2**31 - 1)


def _check_credentials(given: driver_pb2.Credentials) -> None:
    for name in ("root_certificates", "certificate_chain", "private_key"):
        pem = getattr(given, name)
        if pem and b"-----BEGIN " not in pem:  # the value may be a key: it is not shown
            raise PlanError(f"credentials.{name}", f"{len(pem)} bytes", expected="PEM")
    if bool(given.certificate_chain) != bool(given.private_key):
        has = "certificate_chain" if given.certificate_chain else "private_key"
        raise PlanError("credentials", f"{has} alone", expected="both for mutual TLS, or neither")


def _check_call(call: driver_pb2.Call) -> None:
    if not _METHOD.fullmatch(call.method):
        raise PlanError("call.method", call.method, expected="/package.Service/Method")
    _within("call.timeout_s", call.timeout_s, 0.001, MAX_S, unit="s")
    for index, entry in enumerate(call.metadata):
        where = f"call.metadata[{index}]"
        if not _METADATA_KEY.fullmatch(entry.key) or entry.key.endswith("-bin"):
            raise PlanError(
                f"{where}.key", entry.key, expected="lower-case letters, digits, _ . -; no -bin"
            )
        if not (entry.value.isascii() and entry.value.isprintable()):
            raise PlanError(f"{where}.value", entry.value, expected="printable ASCII")
    for index, status in enumerate(call.allowed_status):
        _within(f"call.allowed_status[{index}]", status, 1, 16)
    for index, way in enumerate(call.attributions):
        _check_way(f"call.attributions[{index}]", way)
    if call.backend_key and not _METADATA_KEY.fullmatch(call.backend_key):
        raise PlanError(
            "call.backend_key", call.backend_key, expected="lower-case letters, digits, _ . -"
        )


def _check_stream(plan: driver_pb2.Plan) -> None:
    stream = plan.call.stream
    if stream.interval_s:
        _within("call.stream.interval_s", stream.interval_s, 0.001, MAX_S, unit="s")
        if not stream.bidirectional:
            raise PlanError(
                "call.stream.interval_s",
                stream.interval_s,
                expected="0, since the client of a server stream sends one message",
            )
    if stream.duration_s:
        _within("call.stream.duration_s", stream.duration_s, 0.001, MAX_S, unit="s")
    if stream.bidirectional and stream.messages > 1 and not stream.interval_s:
        raise PlanError(
            "call.stream.interval_s",
            stream.interval_s,
            expected=f"a pace, since call.stream.messages is {stream.messages}",
        )
    has_end = stream.duration_s or stream.messages
    if plan.calls and not has_end:
        raise PlanError(
            "calls",
            plan.calls,
            expected="0, since the streams have no end (call.stream.messages, .duration_s)",
        )
    if plan.WhichOneof("load") == "open" and not has_end:
        raise PlanError(
            "load",
            "open",
            expected="closed, since the streams have no end (call.stream.messages, .duration_s)",
        )


def _check_way(where: str, given: driver_pb2.Attribution) -> None:
    kind = given.WhichOneof("way")
    if kind is None:
        raise PlanError(where, None, expected="header, peer or field")
    if kind == "header" and not _METADATA_KEY.fullmatch(given.header):
        raise PlanError(
            f"{where}.header", given.header, expected="lower-case letters, digits, _ . -"
        )
    if kind == "field" and not given.field.numbers:
        raise PlanError(f"{where}.field.numbers", [], expected="the numbers of 1 field or more")


def _check_load(plan: driver_pb2.Plan) -> None:
    load = plan.WhichOneof("load")
    if load is None:
        raise PlanError("load", None, expected="closed or open")
    if load == "closed":
        _within("closed.concurrency", plan.closed.concurrency, 1, MAX_IN_FLIGHT)
    else:
        _within("open.rate_per_s", plan.open.rate_per_s, 0.001, MAX_RATE_PER_S)
        plan.open.max_in_flight = plan.open.max_in_flight or _DEFAULT_IN_FLIGHT
        _within("open.max_in_flight", plan.open.max_in_flight, 1, MAX_IN_FLIGHT)
    if plan.HasField("warm_up"):
        _within("warm_up.timeout_s", plan.warm_up.timeout_s, 0.0, MAX_S, unit="s")
        named = plan.call.backend_key or plan.call.attributions
        if plan.warm_up.backends and not named:
            raise PlanError(
                "call.backend_key",
                plan.call.backend_key,
                expected=f"a key, since warm_up.backends is {plan.warm_up.backends}",
            )


def _within(field: str, value: float, least: float, most: float, *, unit: str = "") -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise PlanError(field, value, expected=f"{least:.10g} to {most:.10g} {unit}".rstrip())
