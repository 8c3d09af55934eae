"""What a test states about its traffic."""

from __future__ import annotations

from pytest_grpclb.asserts.absence import assert_no_calls_to
from pytest_grpclb.asserts.change import rebalance_deadline_s
from pytest_grpclb.asserts.failures import assert_no_failed_calls
from pytest_grpclb.asserts.ingress import (
    IngressEntrance,
    assert_ingress_reachable,
    assert_redirects_to_https,
    assert_tls_terminated,
)
from pytest_grpclb.asserts.live import LiveTraffic
from pytest_grpclb.asserts.rebalance import assert_rebalanced
from pytest_grpclb.asserts.spread import (
    assert_even_spread,
    assert_pinned,
    assert_share,
    assert_weighted_spread,
)
from pytest_grpclb.asserts.streams import assert_even_streams, assert_streams_stay

__all__ = [
    "IngressEntrance",
    "LiveTraffic",
    "assert_even_spread",
    "assert_even_streams",
    "assert_ingress_reachable",
    "assert_no_calls_to",
    "assert_no_failed_calls",
    "assert_pinned",
    "assert_rebalanced",
    "assert_redirects_to_https",
    "assert_share",
    "assert_streams_stay",
    "assert_tls_terminated",
    "assert_weighted_spread",
    "rebalance_deadline_s",
]
