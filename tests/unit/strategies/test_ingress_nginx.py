"""The strategy ingress-nginx: what it renders and what clients call."""

from __future__ import annotations

import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.errors import ChartError
from pytest_grpclb.model import Mechanism, Service
from pytest_grpclb.settings import IngressSettings, Settings
from pytest_grpclb.strategies.ingress_nginx import IngressNginx

INGRESS = IngressNginx()
SERVICE = Service(
    name="shop", namespace="ns", selector={"app": "shop"}, port=8080, deployment="shop"
)
CHART = charts_directory() / "strategy"


def rendered(**settings: object) -> dict[str, dict[str, object]]:
    wanted = Settings(ingress=IngressSettings(**settings))  # type: ignore[arg-type]
    values = INGRESS.values(SERVICE, wanted)
    manifests = render(CHART, values=values, release="rel", namespace="ns")
    return {each["kind"]: dict(each) for each in manifests}


def test_it_is_a_service_and_an_ingress_and_no_driver() -> None:
    made = rendered()
    assert sorted(made) == ["Ingress", "Service"]
    assert made["Ingress"]["spec"] == {
        "ingressClassName": "nginx",
        "tls": [{"hosts": ["ns.dev.mydomain.com"], "secretName": "grpclb-ingress-tls"}],
        "rules": [
            {
                "host": "ns.dev.mydomain.com",
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {
                                "service": {"name": "rel-ingress", "port": {"name": "grpc"}}
                            },
                        }
                    ]
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("tls", "protocol", "application"),
    [("terminate", "GRPC", "kubernetes.io/h2c"), ("end-to-end", "GRPCS", "https")],
)
def test_one_value_takes_tls_to_the_pods(tls: str, protocol: str, application: str) -> None:
    made = rendered(tls=tls)
    assert made["Ingress"]["metadata"]["annotations"] == {  # type: ignore[index]
        "nginx.ingress.kubernetes.io/backend-protocol": protocol
    }
    assert made["Service"]["spec"]["ports"] == [  # type: ignore[index]
        {
            "name": "grpc",
            "port": 8080,
            "targetPort": 8080,
            "protocol": "TCP",
            "appProtocol": application,
        }
    ]


def test_annotations_of_the_test_win() -> None:
    key = "nginx.ingress.kubernetes.io/backend-protocol"
    made = rendered(annotations={key: "GRPCS", "example.com/x": "y"})
    assert made["Ingress"]["metadata"]["annotations"] == {  # type: ignore[index]
        key: "GRPCS",
        "example.com/x": "y",
    }


def test_clients_call_the_host_from_outside() -> None:
    target = INGRESS.target(SERVICE, Settings(), release="rel")
    assert target.address == "dns:///ns.dev.mydomain.com:443"
    assert target.through_ingress
    assert dict(target.arguments)["grpc.default_authority"] == "ns.dev.mydomain.com"
    named = Settings(ingress=IngressSettings(host="shop.example.com"))
    assert INGRESS.target(SERVICE, named, release="rel").address == "dns:///shop.example.com:443"


def test_the_proxy_is_told_of_changes_and_needs_no_connection_age() -> None:
    timers = INGRESS.timers(Settings(max_connection_age_s=None), dns_ttl_s=30.0)
    assert (timers.push_s, timers.connection_age_s) == (1.0, None)
    assert not INGRESS.needs_connection_age
    assert INGRESS.mechanism is Mechanism.ROUND_ROBIN
    assert INGRESS.promises_rebalancing


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("host", "ingress.host is empty; give the name that clients call"),
        ("secretName", "ingress.tls.secretName is empty; give a Secret of the type"),
    ],
)
def test_the_chart_says_what_it_needs(missing: str, message: str) -> None:
    values = INGRESS.values(SERVICE, Settings())
    part = values["ingress"] if missing == "host" else values["ingress"]["tls"]
    part[missing] = ""
    with pytest.raises(ChartError, match=message):
        render(CHART, values=values, release="rel", namespace="ns")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tls", "terminate, end-to-end"),
        (
            "certificate",
            "valid, expired, wrong-host, wrong-type, other-namespace, missing",
        ),
    ],
)
def test_a_choice_that_is_none_is_refused(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match="cannot be used") as caught:
        IngressSettings(**{name: "both"})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}: 'both' cannot be used; expected {expected}"
