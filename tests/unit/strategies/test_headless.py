"""Round robin in the client, over the addresses of a headless Service."""

from __future__ import annotations

import json

from pytest_grpclb.model import Mechanism, Service, Timers
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies import STRATEGIES

HEADLESS = STRATEGIES["headless"]
SERVICE = Service(
    name="shop", namespace="team", selector={"app": "shop"}, port=8080, deployment="shop"
)


def test_the_chart_is_given_the_backends_selector_and_port() -> None:
    assert HEADLESS.chart is None
    assert HEADLESS.values(SERVICE, Settings()) == {
        "strategy": "headless",
        "backend": {"selector": {"app": "shop"}, "port": 8080},
    }


def test_clients_resolve_the_absolute_name_and_do_round_robin() -> None:
    target = HEADLESS.target(SERVICE, Settings(), release="rel")
    assert target.address == "dns:///rel-headless.team.svc.cluster.local.:8080"
    assert json.loads(target.service_config) == {"loadBalancingConfig": [{"round_robin": {}}]}


def test_it_is_bounded_by_connection_age_resolution_and_dns() -> None:
    settings = Settings(max_connection_age_s=2.0, min_resolution_interval_s=0.5)
    assert HEADLESS.timers(settings, dns_ttl_s=30.0) == Timers(
        connection_age_s=2.0, min_resolution_interval_s=0.5, dns_ttl_s=30.0
    )


def test_without_connection_age_nothing_makes_clients_look_again() -> None:
    timers = HEADLESS.timers(Settings(max_connection_age_s=None), dns_ttl_s=30.0)
    assert timers.connection_age_s is None


def test_every_channel_settles_on_all_backends() -> None:
    assert HEADLESS.mechanism is Mechanism.ROUND_ROBIN
    assert HEADLESS.promises_rebalancing
    assert [HEADLESS.warm_up_backends(backends) for backends in (1, 3, 50)] == [1, 3, 50]
