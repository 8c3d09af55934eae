"""Generators of what goes wrong with backends while traffic runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

from hypothesis import strategies as st

from pytest_grpclb.generators.bounds import (
    require_kinds,
    require_seconds_range,
    require_whole,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

__all__ = ["Fault", "Hang", "Kill", "MakeUnready", "Restart", "Slow", "faults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A pod is deleted without grace; Kubernetes starts another one."""

    backend: int
    """Index among the ready backends, in order of readiness, as in every fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Every pod is replaced by a rolling update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeUnready:
    """A pod goes on serving, but its readiness probe fails for a while."""

    backend: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """A pod keeps its connections and answers nothing for a while."""

    backend: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A pod answers every call late for a while."""

    backend: int
    duration_s: float
    latency_s: float
    """Added to each call."""


Fault = Kill | Restart | MakeUnready | Hang | Slow

_KINDS: tuple[type[Fault], ...] = (Kill, Restart, MakeUnready, Hang, Slow)


@overload
def faults(
    backends: int,
    *,
    kinds: Sequence[type[Fault]] = ...,
    allow_none: Literal[True] = ...,
    min_duration_s: float = ...,
    max_duration_s: float = ...,
    min_latency_s: float = ...,
    max_latency_s: float = ...,
) -> SearchStrategy[Fault | None]: ...


@overload
def faults(
    backends: int,
    *,
    kinds: Sequence[type[Fault]] = ...,
    allow_none: Literal[False],
    min_duration_s: float = ...,
    max_duration_s: float = ...,
    min_latency_s: float = ...,
    max_latency_s: float = ...,
) -> SearchStrategy[Fault]: ...


def faults(
    backends: int,
    *,
    kinds: Sequence[type[Fault]] = _KINDS,
    allow_none: bool = True,
    min_duration_s: float = 0.1,
    max_duration_s: float = 2.0,
    min_latency_s: float = 0.01,
    max_latency_s: float = 0.5,
) -> SearchStrategy[Fault | None]:
    """Generate one fault, or None, the simplest: nothing goes wrong.

    >>> from hypothesis import find
    >>> find(faults(3), lambda fault: fault is not None)
    Kill(backend=0)
    >>> find(faults(3, kinds=[Slow], allow_none=False), lambda fault: fault.backend > 0)
    Slow(backend=1, duration_s=0.1, latency_s=0.01)

    :param backends: how many are ready when it happens
    :param kinds: what may go wrong, the simplest first
    :param allow_none: whether nothing may go wrong
    :param max_duration_s: longest that a backend may stay unready, hung or slow
    :param max_latency_s: most that a slow backend may add to a call
    :raises ValueError: if there is no backend or no kind, or a bound is none
    """
    require_whole("backends", backends, least=1)
    require_kinds(kinds, _KINDS)
    require_seconds_range("duration", min_duration_s, max_duration_s)
    require_seconds_range("latency", min_latency_s, max_latency_s)
    # All is drawn for every kind: Hypothesis takes what needs fewer draws for simpler, and here the
    # order of the kinds says what is.
    fault = st.builds(
        _fault,
        st.sampled_from(tuple(kinds)),
        st.integers(0, backends - 1),
        seconds(min_duration_s, max_duration_s),
        seconds(min_latency_s, max_latency_s),
    )
    return st.one_of(st.none(), fault) if allow_none else fault


def _fault(kind: type[Fault], backend: int, duration_s: float, latency_s: float) -> Fault:
    if kind is Slow:
        return Slow(backend=backend, duration_s=duration_s, latency_s=latency_s)
    if kind is Hang:
        return Hang(backend=backend, duration_s=duration_s)
    if kind is MakeUnready:
        return MakeUnready(backend=backend, duration_s=duration_s)
    return Kill(backend=backend) if kind is Kill else Restart()
