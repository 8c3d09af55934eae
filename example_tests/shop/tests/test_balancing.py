"""The shop's calls spread, and new pods get their share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb import assert_even_spread, assert_rebalanced

if TYPE_CHECKING:
    from pytest_grpclb import Grpclb


def test_items_are_served_evenly(grpclb: Grpclb) -> None:
    assert_even_spread(grpclb.drive())


def test_new_pods_get_their_share(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=1000) as traffic:
        grpclb.scale(5)
        assert_rebalanced(traffic)
