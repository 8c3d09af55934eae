from __future__ import annotations

from re import escape
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.calls import PROVISIONAL_CALL, Resolver, changed
from pytest_grpclb.calls.reflection import reflected
from pytest_grpclb.errors import CallError, OptionError, TypesError
from pytest_grpclb.model import CallTemplate, NamedCall
from pytest_grpclb.settings import TypeSource

from .conftest import SOURCE

if TYPE_CHECKING:
    from pytest_grpclb.calls.reflection import Exchange

GET = NamedCall(method="shop.v1.Catalog/GetItem", request={"id": "42"})
RESOLVER = Resolver(source=SOURCE)


def test_a_named_call_becomes_one_that_can_be_sent() -> None:
    named = NamedCall(
        method="shop.v1.Catalog/GetItem",
        request={"id": "42"},
        timeout_s=3.0,
        metadata=(("x-team", "shop"),),
        allowed_status=(5,),
        backend_field="pod.uid",
    )
    assert RESOLVER.template(named) == CallTemplate(
        method="/shop.v1.Catalog/GetItem",
        request=b"\x0a\x0242",
        timeout_s=3.0,
        metadata=(("x-team", "shop"),),
        allowed_status=(5,),
        backend_field=(5, 1),
        backend_field_name="pod.uid",
    )


def test_a_factory_makes_the_requests_of_as_many_calls_as_there_are() -> None:
    named = NamedCall(method=GET.method, request=lambda number: {"id": str(number)})
    assert RESOLVER.template(named, calls=3).requests == (b"\x0a\x010", b"\x0a\x011", b"\x0a\x012")


def test_a_factory_is_asked_a_thousand_times_at_most() -> None:
    asked: list[int] = []

    def make(number: int) -> dict[str, str]:
        asked.append(number)
        return {"id": str(number)}

    named = NamedCall(method=GET.method, request=make)
    assert len(RESOLVER.template(named, calls=5000).requests) == 1000
    assert asked == list(range(1000))
    assert len(RESOLVER.template(named).requests) == 1000


def test_a_request_of_a_factory_that_does_not_fit_is_told() -> None:
    named = NamedCall(method=GET.method, request=lambda number: {"id": number})
    told = "call 'shop.v1.Catalog/GetItem': request: id: 0 cannot be used; expected string"
    with pytest.raises(CallError, match=f"^{escape(told)}$"):
        RESOLVER.template(named)


@pytest.mark.parametrize(
    ("method", "what"), [("WatchItems", "replies"), ("UploadItems", "requests")]
)
def test_methods_that_stream_are_refused(method: str, what: str) -> None:
    told = (
        f"call 'shop.v1.Catalog/{method}': it streams its {what}, and a unary method is asked for; "
        "name a method without 'stream' in its definition"
    )
    with pytest.raises(CallError, match=f"^{escape(told)}$"):
        RESOLVER.template(NamedCall(method=f"shop.v1.Catalog/{method}"))


def test_bytes_need_no_types() -> None:
    resolver = Resolver(source=TypeSource())
    named = NamedCall(method="a.B/C", request=b"x")
    assert resolver.template(named) == CallTemplate(method="/a.B/C", request=b"x")
    assert resolver.early(named).request == b"x"


def test_a_call_whose_types_only_the_service_knows_has_one_in_its_place() -> None:
    assert Resolver(source=TypeSource()).early(GET) is PROVISIONAL_CALL
    assert RESOLVER.early(GET).method == "/shop.v1.Catalog/GetItem"


def test_changes_win_and_another_method_has_another_request() -> None:
    made = changed(GET, {"method": "shop.v1.Catalog/PutItem", "allowed_status": "not_found"})
    assert made == NamedCall(method="shop.v1.Catalog/PutItem", allowed_status=(5,))
    template = CallTemplate(method="/a.B/C", request=b"x")
    assert changed(template, {"timeout_s": 1.0}) == CallTemplate(
        method="/a.B/C", request=b"x", timeout_s=1.0
    )
    assert changed(template, {"request": {"id": "1"}}) == NamedCall(
        method="a.B/C", request={"id": "1"}, backend_key="grpclb-backend"
    )


def test_changes_that_no_call_has_are_refused() -> None:
    unknown: Any = {"methods": "x"}
    told = "unexpected 'methods'; a call has method, request, timeout_s, metadata, allowed_status"
    with pytest.raises(TypeError, match=f"^{escape(told)}$"):
        changed(GET, unknown)


def test_a_status_that_does_not_exist_is_refused() -> None:
    told = (
        "allowed_status: 'MISSING' cannot be used; expected one of CANCELLED, UNKNOWN, "
        "INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, "
        "RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, "
        "UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED"
    )
    with pytest.raises(OptionError, match=f"^{escape(told)}$"):
        changed(GET, {"allowed_status": ["MISSING"]})


# --- server reflection


def test_a_real_server_tells_its_types(exchange: Exchange) -> None:
    types = reflected("grpc.health.v1.Health/Check", exchange)
    assert types.services() == ("grpc.health.v1.Health",)
    resolver = Resolver(source=TypeSource(), exchange=exchange)
    named = NamedCall(method="grpc.health.v1.Health/Check", request={"service": "a"})
    assert resolver.template(named).request == b"\x0a\x01a"


def test_a_service_that_a_real_server_does_not_have_is_told(exchange: Exchange) -> None:
    told = (
        "call 'grpc.health.v1.Healthy/Check': server reflection knows no service "
        "'grpc.health.v1.Healthy'; did you mean 'grpc.health.v1.Health'?"
    )
    with pytest.raises(CallError, match=f"^{escape(told)}$"):
        reflected("grpc.health.v1.Healthy/Check", exchange)


def test_a_service_whose_types_a_real_server_does_not_tell(exchange: Exchange) -> None:
    with pytest.raises(TypesError) as raised:
        reflected("shop.v1.Unseen/Get", exchange)
    assert str(raised.value).startswith(
        "types by server reflection: the server does not tell the types of 'shop.v1.Unseen': "
    )
    assert str(raised.value).endswith(
        "; enable server reflection in the service, or set --grpclb-protos or "
        "--grpclb-descriptor-set"
    )


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            (14, "refused"),
            "UNAVAILABLE: refused; the service was not reached: say where its pods listen with "
            "--grpclb-service-port, and what they speak TLS with by --grpclb-tls-ca and "
            "--grpclb-tls-name",
        ),
        (
            (16, ""),
            "UNAUTHENTICATED: no details; enable server reflection in the service, or set "
            "--grpclb-protos or --grpclb-descriptor-set",
        ),
    ],
)
def test_a_server_that_cannot_be_asked_is_told(status: tuple[int, str], told: str) -> None:
    asked = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    told = f"types by server reflection: {asked} ended with {told}"
    with pytest.raises(TypesError, match=f"^{escape(told)}$"):
        reflected("a.B/C", lambda _method, _requests: ([], *status))


def test_an_empty_request_needs_no_types_where_the_service_does_not_tell_them() -> None:
    def without_reflection(_method: str, _requests: object) -> tuple[list[bytes], int, str]:
        return [], 12, "unknown service"

    resolver = Resolver(source=TypeSource(), exchange=without_reflection)
    empty = NamedCall(method=GET.method)
    assert resolver.template(empty) == CallTemplate(method="/shop.v1.Catalog/GetItem")
    with pytest.raises(TypesError, match=r"^types by server reflection: the service does not have"):
        resolver.template(GET)
    with pytest.raises(TypesError, match=r"^types by server reflection: the service does not have"):
        resolver.template(NamedCall(method=GET.method, backend_field="pod.uid"))
