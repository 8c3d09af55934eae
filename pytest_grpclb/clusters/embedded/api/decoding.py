"""Checks that a client's object has the fields and types of its kind, and drops what has not.

What comes out of `decode` can be read without further type checks: mappings are mappings, counts
are integers, and no value is null, nor empty where that is the same as not given.

:source: Kubernetes documentation, "API concepts", "Field validation"
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.api.types import fields
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["decode", "missing_fields"]

_MAY_BE_EMPTY = frozenset({"value"})
"""Required texts that may be empty: the value of an HTTP header."""


def decode(obj: Any, type_name: str) -> tuple[Object, list[str]]:
    """Return an object with the fields of its type only, and the paths of those left out.

    :param type_name: as in types.txt; for objects their ``kind``
    :raises BadRequestError: if a value is of a type that its field does not take
    """
    unknown: list[str] = []
    try:
        clean: Object = _decode(obj, type_name, "", unknown)
    except _WrongTypeError as error:
        version = obj.get("apiVersion", "v1") if isinstance(obj, dict) else "v1"
        raise BadRequestError(
            f'{type_name} in version "{version}" cannot be handled as a {type_name}: {error}'
        ) from None
    return clean, unknown


def missing_fields(obj: Object, type_name: str) -> list[Cause]:
    """Return which fields that must be given a decoded object lacks, status left aside."""
    return list(_missing({key: obj[key] for key in obj if key != "status"}, type_name, ""))


class _WrongTypeError(Exception):
    """A value does not fit its field."""

    def __init__(self, path: str, wanted: str, value: Any) -> None:
        super().__init__(f"{path or 'it'} must be {wanted}, not {json.dumps(value)[:100]}")


def _decode(value: Any, wanted: str, path: str, unknown: list[str]) -> Any:
    simple = _SIMPLE.get(wanted)
    if simple is not None:
        fits, description = simple
        if not fits(value):
            raise _WrongTypeError(path, description, value)
        return value
    if wanted.startswith("["):
        if not isinstance(value, list):
            raise _WrongTypeError(path, "a list", value)
        return [
            _decode(item, wanted[1:-1], f"{path}[{index}]", unknown)
            for index, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        raise _WrongTypeError(path, "an object", value)
    if wanted.startswith("{"):
        return {
            key: _decode(inner, wanted[1:-1], f"{path}.{key}", unknown)
            for key, inner in value.items()
            if inner is not None
        }
    return _decode_fields(value, wanted, path, unknown)


def _decode_fields(value: Object, wanted: str, path: str, unknown: list[str]) -> Object:
    known = fields(wanted)
    result = {}
    for key, inner in value.items():
        where = f"{path}.{key}" if path else key
        field = known.get(key)
        if field is None:
            unknown.append(where)
        elif inner is not None:
            decoded = _decode(inner, field.type, where, unknown)
            if decoded or not field.empty_is_absent:
                result[key] = decoded
    return result


def _missing(value: Any, wanted: str, path: str) -> Iterator[Cause]:
    if wanted in _SIMPLE:
        return
    if wanted.startswith("["):
        for index, item in enumerate(value):
            yield from _missing(item, wanted[1:-1], f"{path}[{index}]")
    elif wanted.startswith("{"):
        for key, inner in value.items():
            yield from _missing(inner, wanted[1:-1], f"{path}.{key}")
    else:
        for key, field in fields(wanted).items():
            where = f"{path}.{key}" if path else key
            if key in value:
                yield from _missing(value[key], field.type, where)
            if field.required and (
                key not in value or (value[key] == "" and key not in _MAY_BE_EMPTY)
            ):
                yield Cause(where, "Required value", "FieldValueRequired")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_quantity(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_base64(value: Any) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return False
    return True


_SIMPLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "any": (lambda _: True, "anything"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "bytes": (_is_base64, "text in base64"),
    "int-or-string": (
        lambda value: _is_integer(value) or isinstance(value, str),
        "text or integer",
    ),
    "integer": (_is_integer, "an integer"),
    "micro-time": (_is_time, "a time such as 2026-01-31T12:00:00.000000Z"),
    "quantity": (_is_quantity, "a quantity such as 500m or 1Gi"),
    "string": (lambda value: isinstance(value, str), "text"),
    "time": (_is_time, "a time such as 2026-01-31T12:00:00Z"),
}
