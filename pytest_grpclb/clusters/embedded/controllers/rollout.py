"""How many pods each ReplicaSet of a Deployment should have next: arithmetic, no store.

:source: Kubernetes documentation, "Deployments", "Rolling Update Deployment"; kubernetes,
    ``pkg/controller/deployment/rolling.go`` and ``util/deployment_util.go``
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Limits", "ReplicaCount", "next_sizes", "resolve_limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a rolling update may do to the number of pods."""

    surge: int
    """Pods that may exist beyond the wanted number."""
    unavailable: int
    """Pods that may be missing from the wanted number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaCount:
    """One ReplicaSet in numbers."""

    wanted: int
    """``spec.replicas``."""
    available: int


def resolve_limits(surge: int | str | None, unavailable: int | str | None, replicas: int) -> Limits:
    """Turn numbers or percentages into pods: surge is rounded up, unavailable down.

    If both come to nothing, one pod may be unavailable, or the update could never begin.
    """
    more = _scaled(surge, replicas, math.ceil)
    fewer = _scaled(unavailable, replicas, math.floor)
    return Limits(surge=more, unavailable=fewer if more or fewer else 1)


def next_sizes(
    wanted: int, limits: Limits, new: ReplicaCount, old: Sequence[ReplicaCount]
) -> tuple[int, tuple[int, ...]]:
    """Return the next size of the new ReplicaSet, and of the old ones (oldest first).

    Growing comes first: shrinking looks at what exists, not at what was just asked for.
    """
    sizes = [each.wanted for each in old]
    total = new.wanted + sum(sizes)
    if new.wanted > wanted:
        return wanted, tuple(sizes)
    if new.wanted < wanted:
        grown = new.wanted + min(max(wanted + limits.surge - total, 0), wanted - new.wanted)
        if grown != new.wanted:
            return grown, tuple(sizes)
    floor = wanted - limits.unavailable
    # New pods that are not available yet must not be replaced by old ones that are.
    removable = total - floor - (new.wanted - new.available)
    if removable <= 0:
        return new.wanted, tuple(sizes)
    for index, each in enumerate(old):  # pods that serve nobody go first: no harm is done
        broken = min(each.wanted - each.available, removable, sizes[index])
        if broken > 0:
            sizes[index] -= broken
            removable -= broken
    spare = new.available + sum(each.available for each in old) - floor
    for index, size in enumerate(sizes):
        fewer = min(size, max(spare, 0))
        sizes[index] -= fewer
        spare -= fewer
    return new.wanted, tuple(sizes)


def _scaled(value: int | str | None, replicas: int, rounded: Callable[[float], int]) -> int:
    if value is None:
        value = "25%"
    if isinstance(value, int):
        return value
    share = float(value.removesuffix("%")) * replicas / 100
    return rounded(share)
