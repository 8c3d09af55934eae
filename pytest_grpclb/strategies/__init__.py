"""The load-balancing strategies that come with this package, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.errors import OptionError
from pytest_grpclb.strategies.clusterip import ClusterIp
from pytest_grpclb.strategies.envoy_sidecar import EnvoySidecar
from pytest_grpclb.strategies.headless import Headless
from pytest_grpclb.strategies.ingress_nginx import IngressNginx
from pytest_grpclb.strategies.lookaside import Lookaside
from pytest_grpclb.strategies.protocol import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["STRATEGIES", "Strategy", "find"]

_ALL: tuple[Strategy, ...] = (
    Headless(),
    ClusterIp(),
    Lookaside(),
    EnvoySidecar(),
    IngressNginx(),
)

STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
"""By name, in the order in which ``--grpclb-strategy=all`` runs them."""


def find(name: str, strategies: Mapping[str, Strategy] = STRATEGIES) -> Strategy:
    """Return the strategy that *name* is the name or an alias of.

    :raises OptionError: if there is none, listing all names
    """
    for strategy in strategies.values():
        if name == strategy.name or name in strategy.aliases:
            return strategy
    names = [name for each in strategies.values() for name in (each.name, *each.aliases)]
    raise OptionError("--grpclb-strategy", name, expected=f"one of {', '.join(names)}, all")
