"""From JSON, or a message, to the bytes of a request; what does not fit is named by its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.message import Message

from pytest_grpclb.calls.names import near
from pytest_grpclb.errors import CallError

if TYPE_CHECKING:
    from pytest_grpclb.calls.types import Types

__all__ = ["encode", "field_numbers"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_TYPES = {
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    6: "fixed64",
    7: "fixed32",
    8: "bool",
    9: "string",
    12: "bytes, as base64",
    13: "uint32",
    15: "sfixed32",
    16: "sfixed64",
    17: "sint32",
    18: "sint64",
}
"""Names of scalar types by number. Source: google/protobuf/descriptor.proto, Type."""
_ENUM, _MESSAGE, _GROUP = 14, 11, 10
_STRING, _BYTES = 9, 12


def encode(types: Types, method: str, request: Any) -> bytes:
    """Return the bytes of a request.

    :param method: its full name, for messages
    :param request: bytes, taken as they are; a message of anybody's; or a JSON object
    :raises CallError: if it is none of these, or does not fit the method's type
    """
    if isinstance(request, bytes):
        return request
    wanted = types.method(method).input_type
    if isinstance(request, Message):
        if request.DESCRIPTOR.full_name != wanted.full_name:
            raise CallError(
                method,
                what=f"the request is a {request.DESCRIPTOR.full_name}",
                advice=f"the method takes {wanted.full_name}",
            )
        return request.SerializeToString()
    message = types.new(wanted)
    if not isinstance(request, dict) and not wanted.full_name.startswith("google.protobuf."):
        raise CallError(
            method,
            what=f"the request {request!r} is no JSON object",
            advice=f"write a {wanted.full_name} as JSON, such as {{}}",
        )
    try:
        json_format.ParseDict(request, message, descriptor_pool=types.pool)
        encoded: bytes = message.SerializeToString()
    except (json_format.ParseError, TypeError, ValueError, AttributeError) as error:
        path, what, advice = _trouble(types, wanted, request, error)
        raise CallError(
            method, what=f"request: {path or 'as a whole'}: {what}", advice=advice
        ) from None  # its words are in these
    return encoded


def field_numbers(types: Types, method: str, path: str) -> tuple[int, ...]:
    """Return the numbers of the fields on *path*, such as "pod.uid", in a method's reply.

    :raises CallError: if there is no such field, or it is no single string
    """
    at = types.method(method).output_type
    numbers = []
    names = path.split(".")
    for index, name in enumerate(names):
        field = None if at is None else at.fields_by_name.get(name)
        if field is None:
            holder = "a scalar" if at is None else at.full_name
            raise CallError(
                method,
                what=f"reply field {path!r}: {holder} has no field {name!r}",
                advice=near(name, () if at is None else at.fields_by_name),
            )
        last = index == len(names) - 1
        text = field.type in {_STRING, _BYTES}
        if _repeated(field) or (last and not text):
            raise CallError(
                method,
                what=f"reply field {path!r}: {name!r} is {_kind(field)}",
                advice="name a field that holds the pod's UID or address as one string",
            )
        numbers.append(field.number)
        at = field.message_type
    return tuple(numbers)


def _trouble(types: Types, descriptor: Any, value: Any, error: Exception) -> tuple[str, str, str]:
    """Return where in *value* it does not fit, what is there, and what to write instead.

    Found by asking of each part alone whether it fits: what the library says of a path, and how,
    differs from version to version.
    """
    if descriptor.full_name.startswith("google.protobuf.") or not isinstance(value, dict):
        wanted = f"{descriptor.full_name} as JSON"
        return "", f"{_shown(value)} cannot be used", f"expected {wanted}"
    for name, inner in value.items():
        field = descriptor.fields_by_camelcase_name.get(name)
        field = field or descriptor.fields_by_name.get(name)
        if field is None:
            holder = descriptor.full_name
            return name, f"{holder} has no such field", near(name, descriptor.fields_by_name)
        if not _fits(types, descriptor, {name: inner}):
            path, what, advice = _trouble_in(types, descriptor, field, name, inner)
            return path, what, advice
    return "", str(error), f"expected {descriptor.full_name} as JSON"


def _trouble_in(
    types: Types, descriptor: Any, field: Any, name: str, value: Any
) -> tuple[str, str, str]:
    path = name
    if _is_map(field) or (_repeated(field) and not isinstance(value, list)):
        return path, f"{_shown(value)} cannot be used", f"expected {_kind(field)}"
    if _repeated(field):
        bad = [
            index
            for index, each in enumerate(value)
            if not _fits(types, descriptor, {name: [each]})
        ]
        if not bad:
            return path, f"{_shown(value)} cannot be used", f"expected {_kind(field)}"
        path, value = f"{name}[{bad[0]}]", value[bad[0]]
    if field.type in {_MESSAGE, _GROUP} and isinstance(value, dict):
        inner, what, advice = _trouble(types, field.message_type, value, ValueError())
        return (f"{path}.{inner}" if inner else path), what, advice
    return path, f"{_shown(value)} cannot be used", f"expected {_kind(field, of_one=True)}"


def _fits(types: Types, descriptor: Any, value: Any) -> bool:
    try:
        json_format.ParseDict(value, types.new(descriptor), descriptor_pool=types.pool)
    except (json_format.ParseError, TypeError, ValueError, AttributeError):
        return False
    return True


def _kind(field: Any, *, of_one: bool = False) -> str:
    if _is_map(field) and not of_one:
        return "a JSON object (a map)"
    if field.type == _ENUM:
        one = f"one of {', '.join(each.name for each in field.enum_type.values)}"
    elif field.type in {_MESSAGE, _GROUP}:
        one = f"{field.message_type.full_name} as JSON"
    else:
        one = _TYPES[field.type]
    return f"a list, each {one}" if _repeated(field) and not of_one else one


def _repeated(field: Any) -> bool:
    told = getattr(field, "is_repeated", None)  # newer protobuf warns of `label`
    return bool(field.label == field.LABEL_REPEATED if told is None else told)


def _is_map(field: Any) -> bool:
    return bool(
        field.type == _MESSAGE
        and field.message_type.has_options
        and field.message_type.GetOptions().map_entry
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
