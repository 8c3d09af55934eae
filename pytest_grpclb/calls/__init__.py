"""Calls without stubs: from a method's name and a JSON request to the bytes that are sent."""

from __future__ import annotations

from pytest_grpclb.calls.encoding import encode
from pytest_grpclb.calls.names import full_name, split_name
from pytest_grpclb.calls.resolver import PROVISIONAL_CALL, CallChanges, Resolver, changed
from pytest_grpclb.calls.types import Types, types_of_files

__all__ = [
    "PROVISIONAL_CALL",
    "CallChanges",
    "Resolver",
    "Types",
    "changed",
    "encode",
    "full_name",
    "split_name",
    "types_of_files",
]
