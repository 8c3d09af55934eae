"""Checks of single values, for options and markers alike."""

from __future__ import annotations

import math
from typing import Any

from pytest_grpclb.errors import OptionError

__all__ = ["number", "probability", "whole"]


def number(name: str, value: Any, *, above: float) -> float:
    """Return *value* as a finite number above *above*.

    :raises OptionError: if it is none; the message calls it *name*
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not above < found < math.inf:
        raise OptionError(name, value, expected=f"a number above {above:g}")
    return found


def probability(name: str, value: Any) -> float:
    """Return *value* as a number between 0 and 1, both excluded.

    :raises OptionError: if it is none; the message calls it *name*
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found < 1:
        raise OptionError(name, value, expected="a probability between 0 and 1, both excluded")
    return found


def whole(name: str, value: Any, *, least: int) -> int:
    """Return *value* as a whole number, *least* or more.

    :raises OptionError: if it is none; the message calls it *name*
    """
    try:
        found = int(value) if isinstance(value, str | int) else None
    except ValueError:
        found = None
    if found is None or found < least:
        raise OptionError(name, value, expected=f"a whole number, {least} or more")
    return found
