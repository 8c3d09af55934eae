"""Reads objects in the protobuf encoding, which client-go sends where it has types of its own.

Only reading: whoever sends it also accepts answers in JSON.

:source: Kubernetes documentation, "API concepts", "Kubernetes Protobuf encoding"; protobuf.dev,
    "Encoding"
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.api.types import message_fields
from pytest_grpclb.clusters.embedded.store.status import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["PROTOBUF", "parse_protobuf"]

PROTOBUF = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIGN_BIT = 1 << 63


def parse_protobuf(body: bytes) -> dict[str, Any]:
    """Return the JSON form of an object in its protobuf envelope.

    :raises BadRequestError: if it cannot be read, or is of a kind that is not known
    """
    if not body.startswith(_MAGIC):
        raise BadRequestError("the body of the request does not begin as Kubernetes protobuf does")
    try:
        unknown = dict(_pairs(body[len(_MAGIC) :]))
        head = dict(_pairs(unknown[1]))
        api_version, kind = head[1].decode(), head[2].decode()
        content = _message(unknown.get(2, b""), kind)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise BadRequestError(
            f"the body of the request cannot be read as Kubernetes protobuf: {error!r}"
        ) from None
    return {"apiVersion": api_version, "kind": kind} | content


def _pairs(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields on the wire: their numbers, and integers or bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(data, position)
            yield number, value - (1 << 64) if value & _SIGN_BIT else value
            continue
        if wire_type == _BYTES:
            size, position = _varint(data, position)
        elif wire_type in {_FIXED32, _FIXED64}:
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + size > len(data):
            raise ValueError("it ends too early")
        yield number, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _message(data: bytes, type_name: str) -> dict[str, Any]:
    known = message_fields(type_name)
    result: dict[str, Any] = {}
    for number, raw in _pairs(data):
        field = known.get(number)
        if field is None:
            continue  # of a release that knows more than this one
        if field.inlined:
            result |= _message(raw, field.type)
        elif field.type.startswith("["):
            result.setdefault(field.name, []).append(_value(raw, field.type[1:-1]))
        elif field.type.startswith("{"):
            entry = dict(_pairs(raw))
            of = field.type[1:-1]
            key = entry.get(1, b"").decode()
            result.setdefault(field.name, {})[key] = _value(entry.get(2, b""), of)
        else:
            value = _value(raw, field.type)
            if value is not None:
                result[field.name] = value
    return result


def _value(raw: Any, type_name: str) -> Any:
    read = _SIMPLE.get(type_name)
    return _message(raw, type_name) if read is None else read(raw)


def _whole(raw: Any) -> int:
    if not isinstance(raw, int):
        raise TypeError(f"{raw!r} where a number should be")
    return raw


def _text(raw: bytes) -> str:
    return raw.decode()


def _part(raw: bytes, number: int) -> Any:
    return dict(_pairs(raw)).get(number)


def _int_or_string(raw: bytes) -> int | str:
    parts = dict(_pairs(raw))
    text: bytes = parts.get(3, b"")
    number: int = parts.get(2, 0)
    return text.decode() if parts.get(1) else number


def _moment(raw: bytes, form: str) -> str | None:
    """Return a moment as JSON has it; the zero time, which is the year 1, as none."""
    parts = dict(_pairs(raw))
    if not parts.get(1):
        return None
    moment = datetime.fromtimestamp(parts[1], UTC)
    return moment.replace(microsecond=parts.get(2, 0) // 1000).strftime(form)


_SIMPLE: Mapping[str, Callable[[Any], Any]] = {
    "any": lambda raw: json.loads(_part(raw, 1) or b"null"),
    "boolean": lambda raw: bool(_whole(raw)),
    "bytes": lambda raw: base64.b64encode(raw).decode(),
    "int-or-string": _int_or_string,
    "integer": _whole,
    "micro-time": lambda raw: _moment(raw, "%Y-%m-%dT%H:%M:%S.%fZ"),
    "quantity": lambda raw: _text(_part(raw, 1) or b""),
    "string": _text,
    "time": lambda raw: _moment(raw, "%Y-%m-%dT%H:%M:%SZ"),
}
