"""Generators of the load that a client puts on its backends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from pytest_grpclb.generators.bounds import (
    require_kinds,
    require_seconds,
    require_whole,
    require_whole_range,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

__all__ = ["ClosedLoop", "OpenLoop", "TrafficShape", "traffic_shapes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """The next call is sent when one is answered: slow backends slow the client down."""

    calls: int
    concurrency: int
    """Calls in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Calls are sent at a fixed rate, answered or not: slow backends gather a queue."""

    calls: int
    rate_per_s: float


TrafficShape = ClosedLoop | OpenLoop

_KINDS: tuple[type[TrafficShape], ...] = (ClosedLoop, OpenLoop)


def traffic_shapes(
    *,
    kinds: Sequence[type[TrafficShape]] = _KINDS,
    min_calls: int = 1,
    max_calls: int = 1000,
    max_concurrency: int = 16,
    max_rate_per_s: int = 1000,
    max_duration_s: float = 2.0,
) -> SearchStrategy[TrafficShape]:
    """Generate loads; the simplest is a closed loop with one call in flight.

    >>> from hypothesis import find
    >>> find(traffic_shapes(), lambda shape: shape.calls >= 10)
    ClosedLoop(calls=10, concurrency=1)
    >>> find(traffic_shapes(kinds=[OpenLoop]), lambda shape: shape.calls >= 10)
    OpenLoop(calls=10, rate_per_s=5.0)

    :param kinds: loops to choose from, the simplest first
    :param max_rate_per_s: whole calls a second
    :param max_duration_s: longest that an open loop may take to send its calls
    :raises ValueError: if there is no kind, a bound is none, or the open loop cannot send
        *max_calls* in time
    """
    require_kinds(kinds, _KINDS)
    require_whole_range("calls", min_calls, max_calls, least=1)
    require_whole("max_concurrency", max_concurrency, least=1)
    require_whole("max_rate_per_s", max_rate_per_s, least=1)
    require_seconds("max_duration_s", max_duration_s)
    needed = _slowest_rate(max_calls, max_duration_s)
    if OpenLoop in kinds and needed > max_rate_per_s:
        raise ValueError(
            f"max_calls: {max_calls!r} in max_duration_s, {max_duration_s!r}, take {needed} a "
            f"second, more than max_rate_per_s, {max_rate_per_s!r}; send fewer or raise a limit"
        )
    calls = st.integers(min_calls, max_calls)
    by_kind: dict[type[TrafficShape], SearchStrategy[TrafficShape]] = {
        ClosedLoop: st.builds(ClosedLoop, calls=calls, concurrency=st.integers(1, max_concurrency)),
        OpenLoop: calls.flatmap(
            lambda number: st.builds(
                OpenLoop,
                calls=st.just(number),
                rate_per_s=st.integers(_slowest_rate(number, max_duration_s), max_rate_per_s).map(
                    float
                ),
            )
        ),
    }
    return st.one_of([by_kind[kind] for kind in kinds])


def _slowest_rate(calls: int, max_duration_s: float) -> int:
    return math.ceil(calls / max_duration_s)
