"""Round robin over the list that a balancer pushes."""

from __future__ import annotations

import json

from pytest_grpclb.model import Mechanism, Service, Timers
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies import STRATEGIES

LOOKASIDE = STRATEGIES["lookaside"]
SERVICE = Service(
    name="shop", namespace="team", selector={"app": "shop"}, port=8080, deployment="shop"
)


def test_the_chart_is_given_the_backends_selector_and_port() -> None:
    assert LOOKASIDE.chart is None
    assert LOOKASIDE.values(SERVICE, Settings()) == {
        "strategy": "lookaside",
        "backend": {"selector": {"app": "shop"}, "port": 8080},
    }


def test_clients_ask_for_srv_records_and_have_grpclb_in_their_service_config() -> None:
    """Either alone does nothing."""
    target = LOOKASIDE.target(SERVICE, Settings(), release="rel")
    assert target.address == "dns:///rel-lookaside.team.svc.cluster.local.:8080"
    assert json.loads(target.service_config) == {
        "loadBalancingConfig": [{"grpclb": {"childPolicy": [{"round_robin": {}}]}}]
    }
    assert dict(target.arguments)["grpc.dns_enable_srv_queries"] == 1


def test_it_is_bounded_by_the_push_and_by_nothing_else() -> None:
    settings = Settings(max_connection_age_s=30.0, min_resolution_interval_s=5.0)
    assert LOOKASIDE.timers(settings, dns_ttl_s=30.0) == Timers(
        connection_age_s=30.0, min_resolution_interval_s=0.0, dns_ttl_s=0.0, push_s=0.5
    )


def test_every_channel_settles_on_all_backends() -> None:
    assert LOOKASIDE.mechanism is Mechanism.ROUND_ROBIN
    assert LOOKASIDE.promises_rebalancing
    assert [LOOKASIDE.warm_up_backends(backends) for backends in (1, 3, 50)] == [1, 3, 50]
