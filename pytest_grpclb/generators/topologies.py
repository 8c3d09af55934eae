"""Generators of what runs: how many backends and channels, and how their number changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from pytest_grpclb.generators.bounds import (
    require_choices,
    require_seconds,
    require_whole,
    require_whole_range,
)
from pytest_grpclb.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

__all__ = ["Topology", "scale_plans", "topologies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """How many backends there are, and how their client is built."""

    replicas: int
    channels: int
    concurrency: int
    max_connection_age_s: float | None
    """None: connections live for ever."""

    def settings(self, base: Settings | None = None) -> Settings:
        """Return *base* with this topology in place of its own.

        >>> small = Topology(replicas=2, channels=1, concurrency=4, max_connection_age_s=None)
        >>> small.settings().replicas
        2

        :param base: what the test asked for otherwise; the defaults if not given
        """
        return replace(
            base or Settings(),
            replicas=self.replicas,
            channels=self.channels,
            concurrency=self.concurrency,
            max_connection_age_s=self.max_connection_age_s,
        )


def topologies(
    *,
    min_replicas: int = 1,
    max_replicas: int = 6,
    min_channels: int = 1,
    max_channels: int = 4,
    min_concurrency: int = 1,
    max_concurrency: int = 16,
    connection_ages_s: Sequence[float | None] = (None, 0.5, 1.0, 2.0),
) -> SearchStrategy[Topology]:
    """Generate topologies; the simplest has one replica, one channel and no connection age.

    >>> from hypothesis import find
    >>> find(topologies(), lambda topology: topology.channels > 1)
    Topology(replicas=1, channels=2, concurrency=1, max_connection_age_s=None)

    :param connection_ages_s: what ``max_connection_age_s`` may be, the simplest first
    :raises ValueError: if a bound is below 1, a maximum below its minimum, or an age is none
    """
    require_whole_range("replicas", min_replicas, max_replicas, least=1)
    require_whole_range("channels", min_channels, max_channels, least=1)
    require_whole_range("concurrency", min_concurrency, max_concurrency, least=1)
    require_choices("connection_ages_s", connection_ages_s)
    for index, age_s in enumerate(connection_ages_s):
        if age_s is not None:
            require_seconds(f"connection_ages_s[{index}]", age_s)
    return st.builds(
        Topology,
        replicas=st.integers(min_replicas, max_replicas),
        channels=st.integers(min_channels, max_channels),
        concurrency=st.integers(min_concurrency, max_concurrency),
        max_connection_age_s=st.sampled_from(tuple(connection_ages_s)),
    )


def scale_plans(
    *,
    start: int | None = None,
    min_replicas: int = 1,
    max_replicas: int = 6,
    min_steps: int = 1,
    max_steps: int = 4,
) -> SearchStrategy[tuple[int, ...]]:
    """Generate numbers of replicas to scale to, one after the other; each differs from the last.

    >>> from hypothesis import find
    >>> find(scale_plans(start=3), lambda plan: plan[-1] > 3)
    (4,)

    :param start: replicas before the first step, so that it is a change too; None: not known
    :param min_replicas: at least 0
    :raises ValueError: if a bound is too low, a maximum below its minimum, *start* out of bounds,
        or there is only one number to scale to and more steps than that allows
    """
    require_whole_range("replicas", min_replicas, max_replicas, least=0)
    require_whole_range("steps", min_steps, max_steps, least=1)
    if start is not None:
        require_whole("start", start, least=0)
        if not min_replicas <= start <= max_replicas:
            raise ValueError(
                f"start: {start!r} is not within min_replicas, {min_replicas!r}, and max_replicas, "
                f"{max_replicas!r}; widen them"
            )
    if min_replicas == max_replicas and (start is not None or max_steps > 1):
        raise ValueError(
            f"max_replicas: {max_replicas!r} is min_replicas too, so that no step can differ from "
            "the last; raise the one or lower the other"
        )
    # A step is drawn from one number less than there are; the one it may not be is skipped.
    step = st.integers(min_replicas, max(min_replicas, max_replicas - 1))
    if start is not None:
        steps = st.lists(step, min_size=min_steps, max_size=max_steps)
        return steps.map(lambda draws: _unlike_the_last(start, draws))
    later = st.lists(step, min_size=min_steps - 1, max_size=max_steps - 1)
    first = st.integers(min_replicas, max_replicas)
    return st.tuples(first, later).map(
        lambda drawn: (drawn[0], *_unlike_the_last(drawn[0], drawn[1]))
    )


def _unlike_the_last(last: int, draws: Sequence[int]) -> tuple[int, ...]:
    plan = []
    for drawn in draws:
        last = drawn if drawn < last else drawn + 1
        plan.append(last)
    return tuple(plan)
