"""Bounds of what is generated: checked at the call, with the value and the limit in the message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis.strategies import SearchStrategy

__all__ = [
    "require_choices",
    "require_kinds",
    "require_number",
    "require_probability",
    "require_seconds",
    "require_seconds_range",
    "require_whole",
    "require_whole_range",
    "seconds",
]

# Times are generated in whole milliseconds: they read well in a failure, and pods do no better.
_PER_SECOND = 1000
_LEAST_S = 1 / _PER_SECOND


def require_whole(name: str, value: object, *, least: int) -> None:
    """Check one whole number.

    :raises ValueError: if it is none, or below *least*
    """
    # True is an int to Python, and never a number of anything.
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: {value!r} is not a whole number of at least {least}")


def require_whole_range(plural: str, low: int, high: int, *, least: int) -> None:
    """Check the arguments ``min_...`` and ``max_...`` of a number of things.

    :raises ValueError: if one is no number, below *least*, or they are in the wrong order
    """
    require_whole(f"min_{plural}", low, least=least)
    require_whole(f"max_{plural}", high, least=least)
    _require_order(plural, low, high)


def require_number(name: str, value: object, *, above: float) -> None:
    """Check one number.

    :raises ValueError: if it is none, not finite, or not above *above*
    """
    number = _finite(value)
    if number is None or number <= above:
        raise ValueError(f"{name}: {value!r} is not a number above {above:g}")


def require_probability(name: str, value: object) -> None:
    """Check one probability.

    :raises ValueError: if it is not between 0 and 1, both excluded
    """
    number = _finite(value)
    if number is None or not 0.0 < number < 1.0:
        raise ValueError(f"{name}: {value!r} is not between 0 and 1")


def require_seconds(name: str, value: object) -> None:
    """Check one duration.

    :raises ValueError: if it is not finite, or below a millisecond
    """
    number = _finite(value)
    if number is None or number < _LEAST_S:
        raise ValueError(f"{name}: {value!r} is not a number of seconds of at least {_LEAST_S:g}")


def require_seconds_range(noun: str, low: float, high: float) -> None:
    """Check the arguments ``min_..._s`` and ``max_..._s`` of a duration.

    :raises ValueError: if one is no duration, or no whole millisecond lies between them
    """
    require_seconds(f"min_{noun}_s", low)
    require_seconds(f"max_{noun}_s", high)
    _require_order(f"{noun}_s", low, high)
    first, last = _milliseconds(low, high)
    if first > last:
        raise ValueError(
            f"max_{noun}_s: {high!r} and min_{noun}_s, {low!r}, have no whole millisecond between "
            "them; widen the range"
        )


def require_choices(name: str, values: object) -> None:
    """Check that there is something to choose from, in an order: shrinking ends with the first.

    :raises ValueError: if it is no sequence, or empty
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{name}: {values!r} has no order; give a tuple or list, simplest first")  # noqa: TRY004 - a bad argument is a ValueError here
    if not values:
        raise ValueError(f"{name}: {values!r} is empty; at least 1 is needed")


def require_kinds(values: object, known: Iterable[object]) -> None:
    """Check the argument ``kinds``.

    :raises ValueError: if it is no sequence, empty, or holds something that is not *known*
    """
    require_choices("kinds", values)
    assert isinstance(values, Sequence)
    known = tuple(known)
    for value in values:
        if value not in known:
            names = ", ".join(_name(kind) for kind in known)
            raise ValueError(f"kinds: {_name(value)} is no kind; choose from {names}")


def seconds(low: float, high: float) -> SearchStrategy[float]:
    """Generate durations of whole milliseconds; the shortest is the simplest."""
    first, last = _milliseconds(low, high)
    return st.integers(first, last).map(lambda milliseconds: milliseconds / _PER_SECOND)


def _milliseconds(low: float, high: float) -> tuple[int, int]:
    # Rounded first: 1.001 * 1000 is a little less than 1001.
    return (
        math.ceil(round(low * _PER_SECOND, 6)),
        math.floor(round(high * _PER_SECOND, 6)),
    )


def _require_order(noun: str, low: float, high: float) -> None:
    if high < low:
        raise ValueError(
            f"max_{noun}: {high!r} is less than min_{noun}, {low!r}; raise the one or lower the "
            "other"
        )


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _name(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
