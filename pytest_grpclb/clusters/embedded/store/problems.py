"""Collects what is wrong with an object, in the words of Kubernetes.

:source: apimachinery, ``pkg/util/validation/field/errors.go``
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.store.status import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Problems"]


class Problems:
    """The fields that are not as they must be, in the order in which they were found."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []

    def required(self, field: str, why: str = "") -> None:
        """Note a field that is missing."""
        told = f"Required value: {why}" if why else "Required value"
        self.causes.append(Cause(field, told, "FieldValueRequired"))

    def invalid(self, field: str, value: Any, why: str) -> None:
        """Note a value that cannot be."""
        self.causes.append(Cause(field, f"Invalid value: {_shown(value)}: {why}"))

    def forbidden(self, field: str, why: str) -> None:
        """Note a field that may not be there, or not be changed."""
        self.causes.append(Cause(field, f"Forbidden: {why}", "FieldValueForbidden"))

    def not_found(self, field: str, value: Any) -> None:
        """Note a reference to something that the object does not have."""
        told = f"Not found: {_shown(value)}"
        self.causes.append(Cause(field, told, "FieldValueNotFound"))

    def one_of(self, field: str, value: Any, supported: Iterable[str]) -> None:
        """Note *value* unless it is among those supported."""
        if value not in supported:
            listed = ", ".join(_shown(name) for name in supported)
            told = f"Unsupported value: {_shown(value)}: supported values: {listed}"
            self.causes.append(Cause(field, told, "FieldValueNotSupported"))

    def unique(self, field: str, value: Any, seen: set[Any]) -> None:
        """Note *value* if it was seen before, and remember it."""
        if value in seen:
            told = f"Duplicate value: {_shown(value)}"
            self.causes.append(Cause(field, told, "FieldValueDuplicate"))
        seen.add(value)

    def not_negative(self, field: str, value: int | None) -> None:
        """Note a count below 0."""
        if value is not None and value < 0:
            self.invalid(field, value, "must be greater than or equal to 0")

    def port(self, field: str, value: int) -> None:
        """Note a port number that there cannot be."""
        if not 1 <= value <= 65535:
            self.invalid(field, value, "must be between 1 and 65535, inclusive")

    def text(self, field: str, value: Any, why: str) -> None:
        """Note *value* if there is anything to say against it."""
        if why:
            self.invalid(field, value, why)


def _shown(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
