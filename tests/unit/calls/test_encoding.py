from __future__ import annotations

from re import escape
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format, struct_pb2

from pytest_grpclb.calls import encode
from pytest_grpclb.calls.encoding import field_numbers
from pytest_grpclb.errors import CallError

if TYPE_CHECKING:
    from pytest_grpclb.calls import Types

PUT = "shop.v1.Catalog/PutItem"
GET = "shop.v1.Catalog/GetItem"


def refusal(shop: Types, request: Any, method: str = PUT) -> str:
    with pytest.raises(CallError) as raised:
        encode(shop, method, request)
    return str(raised.value)


def test_json_becomes_the_bytes_that_the_wire_has(shop: Types) -> None:
    # Field 1, length-delimited, "42"; field 2, varint, 7.
    assert encode(shop, PUT, {"id": "42", "price": 7}) == b"\x0a\x0242\x10\x07"


def test_json_names_in_camel_case_and_nested_values_fit(shop: Types) -> None:
    request = {"tags": [{"name": "a", "weight": 0.5}], "kind": "KIND_BOOK", "stock": {"x": 1}}
    message = shop.new(shop.method(PUT).input_type)
    message.ParseFromString(encode(shop, PUT, request))
    assert json_format.MessageToDict(message) == request


def test_bytes_are_taken_as_they_are(shop: Types) -> None:
    assert encode(shop, PUT, b"\x0a\x0242") == b"\x0a\x0242"


def test_a_message_of_the_same_type_is_taken(shop: Types) -> None:
    message = shop.new(shop.method(PUT).input_type)
    message.id = "42"
    assert encode(shop, PUT, message) == b"\x0a\x0242"


def test_a_message_of_another_type_is_refused(shop: Types) -> None:
    assert refusal(shop, struct_pb2.Struct()) == (
        "call 'shop.v1.Catalog/PutItem': the request is a google.protobuf.Struct; the method takes "
        "shop.v1.Item"
    )


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ([1], "the request [1] is no JSON object; write a shop.v1.Item as JSON, such as {}"),
        (
            {"itm": 1},
            "request: itm: shop.v1.Item has no such field; there are: id, kind, names, pod, price, "
            "stock, tags",
        ),
        (
            {"prise": 1},
            "request: prise: shop.v1.Item has no such field; did you mean 'price'?",
        ),
        ({"price": "ten"}, "request: price: 'ten' cannot be used; expected int32"),
        ({"id": 42}, "request: id: 42 cannot be used; expected string"),
        (
            {"kind": "KIND_FILM"},
            "request: kind: 'KIND_FILM' cannot be used; expected one of KIND_UNSPECIFIED, "
            "KIND_BOOK",
        ),
        (
            {"tags": [{"name": "a"}, {"weight": "heavy"}]},
            "request: tags[1].weight: 'heavy' cannot be used; expected double",
        ),
        (
            {"tags": {"name": "a"}},
            "request: tags: {'name': 'a'} cannot be used; expected a list, each shop.v1.Tag as "
            "JSON",
        ),
        ({"pod": {"uid": []}}, "request: pod.uid: [] cannot be used; expected string"),
        ({"pod": "x"}, "request: pod: 'x' cannot be used; expected shop.v1.Pod as JSON"),
        (
            {"stock": {"x": "many"}},
            "request: stock: {'x': 'many'} cannot be used; expected a JSON object (a map)",
        ),
        ({"names": ["a", 1]}, "request: names[1]: 1 cannot be used; expected string"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(shop: Types, request_: Any, told: str) -> None:
    assert refusal(shop, request_) == f"call 'shop.v1.Catalog/PutItem': {told}"


def test_a_value_that_a_well_known_type_refuses(shop: Types) -> None:
    assert refusal(shop, {"pause": "soon"}, GET) == (
        "call 'shop.v1.Catalog/GetItem': request: pause: 'soon' cannot be used; expected "
        "google.protobuf.Duration as JSON"
    )


def test_a_reply_field_is_found_by_its_numbers(shop: Types) -> None:
    assert field_numbers(shop, GET, "pod.uid") == (5, 1)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("pod.name", "shop.v1.Pod has no field 'name'; there are: uid"),
        ("id.name", "a scalar has no field 'name'; there is none"),
        (
            "price",
            "'price' is int32; name a field that holds the pod's UID or address as one string",
        ),
        (
            "tags.name",
            "'tags' is a list, each shop.v1.Tag as JSON; name a field that holds the pod's UID or "
            "address as one string",
        ),
    ],
)
def test_a_reply_field_that_names_nobody_is_refused(shop: Types, path: str, told: str) -> None:
    message = f"call 'shop.v1.Catalog/GetItem': reply field {path!r}: {told}"
    with pytest.raises(CallError, match=f"^{escape(message)}$"):
        field_numbers(shop, GET, path)
