"""An Envoy beside the client spreads the calls of one connection, and follows the pods by DNS."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_grpclb import (
    CallTemplate,
    Grpclb,
    assert_even_spread,
    assert_no_failed_calls,
    assert_rebalanced,
)


@pytest.mark.grpclb_only("envoy-sidecar")
@pytest.mark.grpclb(replicas=5)
def test_one_worker_makes_an_exact_round(grpclb: Grpclb) -> None:
    traffic = grpclb.drive(calls=502)
    assert_even_spread(traffic)
    assert sorted(traffic.counts().values()) == [100, 100, 100, 101, 101]


@pytest.mark.grpclb_only("envoy-sidecar")
@pytest.mark.grpclb(envoy_workers=4, channels=8)
def test_each_worker_adds_one_to_what_counts_may_differ_by(grpclb: Grpclb) -> None:
    traffic = grpclb.drive()
    verdict = assert_even_spread(traffic)
    assert traffic.pickers == 4
    assert max(verdict.counts.values()) - min(verdict.counts.values()) <= 4


@pytest.mark.grpclb_only("envoy-sidecar")
def test_new_pods_get_their_share_though_no_connection_ends(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=1000) as traffic:
        grpclb.scale(6)
        assert_rebalanced(traffic)


@pytest.mark.grpclb_only("envoy-sidecar")
@pytest.mark.grpclb(max_connection_age_s=1)
def test_a_rolling_restart_loses_no_call(grpclb: Grpclb) -> None:
    """Also while the pods end their connections again and again."""
    with grpclb.traffic(rate=200) as traffic:
        grpclb.restart(until_ended=True)
        assert_rebalanced(traffic)
    assert_no_failed_calls(traffic.stop())


class TestAServiceThatDoesNotSayWhoAnswered:
    @pytest.fixture
    def grpclb_call(self, grpclb_call: CallTemplate) -> CallTemplate:
        """Envoy says so in its stead: the address of the pod, in a response header."""
        return dataclasses.replace(grpclb_call, backend_key="grpclb-upstream")

    @pytest.mark.grpclb_only("envoy-sidecar")
    def test_its_pods_are_told_apart_by_their_addresses(self, grpclb: Grpclb) -> None:
        traffic = grpclb.drive()
        assert_even_spread(traffic)
        assert set(traffic.counts()) == {backend.uid for backend in grpclb.backends()}
