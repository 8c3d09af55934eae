"""Hooks by which other plugins and conftest files add strategies and cluster providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_grpclb.clusters import Provider
    from pytest_grpclb.strategies import Strategy


@pytest.hookspec()
def pytest_grpclb_strategies(config: pytest.Config) -> Iterable[Strategy]:
    """Return further load-balancing strategies; ``--grpclb-strategy`` takes their names.

    A name that is taken already is an error.
    """
    raise NotImplementedError


@pytest.hookspec()
def pytest_grpclb_clusters(config: pytest.Config) -> Mapping[str, Provider]:
    """Return further cluster providers by name; ``--grpclb-cluster`` takes these names.

    A name that is taken already is an error.
    """
    raise NotImplementedError
