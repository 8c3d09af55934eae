"""Real API servers drop fields that they do not know: all that is made fits what they publish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters import ingress_controller
from pytest_grpclb.clusters.pods.readiness import with_gate
from pytest_grpclb.model import Service
from pytest_grpclb.samples import greeter_values
from pytest_grpclb.settings import IngressSettings, OwnPods, PullSecret, Settings
from pytest_grpclb.sources.choice import Probe
from pytest_grpclb.sources.made import ImageSource
from pytest_grpclb.strategies import STRATEGIES
from tests.published_schemas import RELEASES, refusals

from .test_charts import VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = Service(name="shop", namespace="ns", selector={"app": "shop"}, port=80, deployment="shop")
COMPANYS = OwnPods(
    envoy_image="mirror.example.com/envoy@sha256:" + "0" * 64,
    pull_secrets=(PullSecret(namespace="ci", name="registry"),),
    cluster_domain="example.internal",
    security={"runAsUser": None, "runAsGroup": None},
    resources={
        each: {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": None}}
        for each in ("driver", "envoy", "balancer", "sample")
    },
)


def test_the_check_itself_sees_an_unknown_field_and_a_wrong_type() -> None:
    service: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    unknown = "Additional properties are not allowed ('prots' was unexpected)"
    assert refusals([service | {"spec": {"prots": []}}]) == [
        f"{release}: Service: spec: {unknown}" for release in RELEASES
    ]
    assert len(refusals([service | {"spec": {"ports": [{"port": "80"}]}}])) == len(RELEASES)
    assert refusals([service | {"spec": {"ports": [{"port": 80}]}}]) == []


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_what_the_charts_make(name: str, values: dict[str, Any]) -> None:
    assert (
        refusals(render(charts_directory() / name, values=values, release="r", namespace="n")) == []
    )


@pytest.mark.parametrize("own_pods", [OwnPods(), COMPANYS], ids=["as-charted", "companys"])
@pytest.mark.parametrize("tls", ["terminate", "end-to-end"])
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
def test_what_a_strategy_and_the_sample_make(strategy: Any, tls: str, own_pods: OwnPods) -> None:
    settings = Settings(ingress=IngressSettings(tls=tls), max_connection_age_s=0.5)
    values = merged(strategy.values(SERVICE, settings), own_pods.strategy_values())
    if tls == "end-to-end" and strategy.name == "envoy-sidecar":
        secured = {"secretName": "tls", "name": "shop.example.com", "mutual": True}
        values = merged(values, {"envoy": {"tls": secured}})
    made = render(charts_directory() / "strategy", values=values, release="r", namespace="ns")
    sample = greeter_values(settings, image="a/b:1", through_ingress=True, dns_cache_s=30.0)
    sample |= own_pods.sample_values()
    made += render(charts_directory() / "greeter", values=sample, release="g", namespace="ns")
    assert refusals(made) == []


@pytest.mark.parametrize("probe", Probe)
def test_what_an_image_alone_makes(probe: Probe, tmp_path: Path) -> None:
    source = ImageSource(
        image="shop:1",
        root=tmp_path,
        probe=probe,
        environment={"MODE": "test"},
        environment_from=(("configMap", "shop"), ("secret", "shop")),
        pull_secrets=("registry",),
    )
    no_api: Any = None  # it is asked for the kinds of manifests alone, and there are none
    made = source.backends(no_api, Settings(), namespace="ns").manifests
    assert refusals([*made, *with_gate(made)]) == []


def test_what_installs_the_ingress_controller() -> None:
    assert refusals(ingress_controller.manifests(node="grpclb-control-plane")) == []


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    found = dict(values)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found
