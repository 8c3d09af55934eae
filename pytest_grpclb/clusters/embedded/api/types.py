"""The fields and types of every object that the embedded cluster reads, from types.txt."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Field", "fields", "message_fields"]

_TYPES = Path(__file__).with_name("types.txt")


class Field(NamedTuple):
    """One field of a type."""

    name: str
    type: str
    """A simple type, ``[T]``, ``{T}`` or the name of another type."""
    required: bool = False
    empty_is_absent: bool = False
    inlined: bool = False
    """Its own fields stand in place of it, except on the wire of protobuf."""


@functools.cache
def fields(type_name: str) -> Mapping[str, Field]:
    """Return the fields of a type as JSON has them, by name."""
    return {field.name: field for field in _flattened(type_name)}


@functools.cache
def message_fields(type_name: str) -> Mapping[int, Field]:
    """Return the fields of a type as protobuf has them, by number."""
    return {number: field for number, field in _read(type_name) if number}


def _flattened(type_name: str) -> Iterator[Field]:
    for _, field in _read(type_name):
        if field.inlined:
            yield from _flattened(field.type)
        else:
            yield field


def _read(type_name: str) -> Iterator[tuple[int, Field]]:
    for entry in _lines()[type_name].split():
        *number, name, type_ = entry.split(":")
        plain = name.rstrip("!~")
        field = Field(plain, type_, "!" in name, "~" in name, inlined=name == "...")
        yield (int(number[0]) if number else 0), field


@functools.cache
def _lines() -> Mapping[str, str]:
    lines = (line for line in _TYPES.read_text().splitlines() if not line.startswith("#"))
    return {name: rest for name, _, rest in (line.partition(" ") for line in lines)}
