"""Round robin in an Envoy beside the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.model import Mechanism, Service, Timers
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVOY = STRATEGIES["envoy-sidecar"]
SERVICE = Service(
    name="shop", namespace="ns", selector={"app": "shop"}, port=8080, deployment="shop"
)


def bootstrap(settings: Settings, *, release: str) -> Mapping[str, Any]:
    chart, values = charts_directory() / "strategy", ENVOY.values(SERVICE, settings)
    manifests = render(chart, values=values, release=release, namespace="ns")
    [config] = [each for each in manifests if each["kind"] == "ConfigMap"]
    read: Mapping[str, Any] = yaml.safe_load(config["data"]["envoy.yaml"])
    return read


def test_the_chart_is_given_the_settings_of_envoy() -> None:
    assert ENVOY.chart is None
    settings = Settings(envoy_workers=4, min_resolution_interval_s=0.5)
    assert ENVOY.values(SERVICE, settings) == {
        "strategy": "envoy-sidecar",
        "backend": {"selector": {"app": "shop"}, "port": 8080},
        "envoy": {
            "port": 10000,
            "workers": 4,
            "dnsRefreshSeconds": 0.5,
            "upstreamHeader": "grpclb-upstream",
        },
    }


def test_the_client_dials_its_own_pod_and_needs_no_policy() -> None:
    target = ENVOY.target(SERVICE, Settings(), release="rel")
    assert target.address == "dns:///localhost:10000"
    assert target.service_config == ""
    assert dict(target.arguments)["grpc.default_authority"] == "rel-envoy.ns.svc.cluster.local:8080"


@pytest.mark.parametrize("release", ["grpclb", "r" * 53])
def test_envoy_listens_where_the_client_dials_and_asks_for_the_service_that_is_made(
    release: str,
) -> None:
    static = bootstrap(Settings(), release=release)["static_resources"]
    [client] = [each for each in static["listeners"] if each["name"] == "client"]
    place = client["address"]["socket_address"]
    assert place == {"address": "127.0.0.1", "port_value": 10000}

    [backends] = [each for each in static["clusters"] if each["name"] == "backends"]
    [locality] = backends["load_assignment"]["endpoints"]
    [endpoint] = locality["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {
        "address": f"{release}-envoy.ns.svc.cluster.local.",
        "port_value": 8080,
    }


def test_it_is_bounded_by_how_often_envoy_asks_dns() -> None:
    settings = Settings(max_connection_age_s=None, min_resolution_interval_s=0.25)
    assert ENVOY.timers(settings, dns_ttl_s=5.0) == Timers(connection_age_s=None, push_s=5.75)


def test_it_needs_no_end_of_connections_and_reaches_all_backends() -> None:
    assert ENVOY.mechanism is Mechanism.ROUND_ROBIN
    assert ENVOY.promises_rebalancing
    assert not ENVOY.needs_connection_age
    assert [ENVOY.warm_up_backends(backends) for backends in (1, 3, 50)] == [1, 3, 50]
