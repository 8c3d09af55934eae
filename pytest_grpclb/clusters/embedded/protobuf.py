"""Reads objects in the protobuf encoding, which client-go sends where it has types of its own.

Only reading: whoever sends it also accepts answers in JSON.

:source: Kubernetes documentation, "API concepts", "Kubernetes Protobuf encoding"; protobuf.dev,
    "Encoding"
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pytest_grpclb.clusters.embedded.status import BadRequestError
from pytest_grpclb.clusters.embedded.types import Field, message_fields

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
    except (IndexError, KeyError, TypeError, ValueError) as error:
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
            _set(result, field, _value(raw, field.type))
    return result


def _set(result: dict[str, Any], field: Field, value: Any) -> None:
    """Set a field unless what is on the wire means that it is not given."""
    if value is not None and (value or not field.empty_is_absent):
        result[field.name] = value


def _value(raw: Any, type_name: str) -> Any:
    match type_name:
        case "string":
            return raw.decode()
        case "integer":
            return raw
        case "boolean":
            return bool(raw)
        case "bytes":
            return base64.b64encode(raw).decode()
        case "quantity":
            return dict(_pairs(raw)).get(1, b"").decode()
        case "int-or-string":
            parts = dict(_pairs(raw))
            return parts.get(3, b"").decode() if parts.get(1) else parts.get(2, 0)
        case "time":
            return _time(dict(_pairs(raw)))
        case "any":
            return json.loads(dict(_pairs(raw)).get(1, b"") or b"null")
        case _:
            return _message(raw, type_name)


def _time(parts: dict[int, Any]) -> str | None:
    """Return a moment as JSON has it; the zero time, which is the year 1, as none."""
    if not parts.get(1):
        return None
    moment = datetime.fromtimestamp(parts[1], UTC)
    microseconds = parts.get(2, 0) // 1000
    if microseconds:
        return moment.replace(microsecond=microseconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
