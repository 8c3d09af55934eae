"""One pod for each connection: the baseline."""

from __future__ import annotations

from pytest_grpclb.model import Mechanism, Service, Timers
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies import STRATEGIES

CLUSTERIP = STRATEGIES["clusterip"]
SERVICE = Service(
    name="shop", namespace="team", selector={"app": "shop"}, port=8080, deployment="shop"
)


def test_the_chart_is_given_the_backends_selector_and_port() -> None:
    assert CLUSTERIP.chart is None
    assert CLUSTERIP.values(SERVICE, Settings()) == {
        "strategy": "clusterip",
        "backend": {"selector": {"app": "shop"}, "port": 8080},
    }


def test_clients_dial_one_address_with_grpcs_defaults() -> None:
    target = CLUSTERIP.target(SERVICE, Settings(), release="rel")
    assert target.address == "dns:///rel-clusterip.team.svc.cluster.local.:8080"
    assert target.service_config == ""


def test_only_connection_age_bounds_it_since_the_address_stays() -> None:
    settings = Settings(max_connection_age_s=2.0, min_resolution_interval_s=0.5)
    assert CLUSTERIP.timers(settings, dns_ttl_s=30.0) == Timers(connection_age_s=2.0)


def test_every_channel_settles_on_one_backend() -> None:
    assert CLUSTERIP.mechanism is Mechanism.CONNECTION
    assert not CLUSTERIP.promises_rebalancing
    assert [CLUSTERIP.warm_up_backends(backends) for backends in (1, 3, 50)] == [1, 1, 1]
