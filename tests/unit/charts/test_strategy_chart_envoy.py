"""The sidecar that the strategy chart puts into the driver's pod, and its configuration."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import yaml

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters.embedded.node.envoy import find_envoy
from pytest_grpclb.errors import ChartError

from .test_charts import restricted_violations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHART = charts_directory() / "strategy"
BACKEND = {"selector": {"app": "shop"}, "port": 8080}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "quick": {"dnsRefreshSeconds": 0.01, "connectTimeoutSeconds": 0.25},
    "slow": {"dnsRefreshSeconds": 3600, "connectTimeoutSeconds": 3600},
    "workers": {"workers": 16, "logLevel": "trace"},
    "ports": {"port": 1, "adminPort": 65535, "probePort": 3},
    "never again": {"retries": 0},
    "other header": {"upstreamHeader": "x-pod"},
    "other image": {"image": {"repository": "registry:5000/envoyproxy/envoy", "tag": "v1.39.1"}},
}
each_variant = pytest.mark.parametrize("envoy", VARIANTS.values(), ids=list(VARIANTS))


def objects(envoy: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Render the chart; there is one object of each kind."""
    values = {"strategy": "envoy-sidecar", "backend": BACKEND, "envoy": envoy} | more
    manifests = render(CHART, values=values, release="rel", namespace="ns")
    assert sorted(each["kind"] for each in manifests) == ["ConfigMap", "Deployment", "Service"]
    return {each["kind"]: each for each in manifests}


def sidecar(manifests: Mapping[str, Any]) -> dict[str, Any]:
    [_, container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "envoy"
    found: dict[str, Any] = container
    return found


@each_variant
def test_envoy_itself_finds_nothing_wrong_with_the_configuration(
    envoy: dict[str, Any], tmp_path: Path
) -> None:
    manifests = objects(envoy)
    config = tmp_path / "envoy.yaml"
    config.write_text(manifests["ConfigMap"]["data"]["envoy.yaml"])
    arguments = sidecar(manifests)["args"]
    assert arguments[:2] == ["--config-path", "/etc/envoy/envoy.yaml"]
    done = subprocess.run(
        [str(find_envoy()), "--mode", "validate", "-c", str(config), *arguments[2:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"configuration '{config}' OK" in done.stdout, done.stderr
    # No field that the next version may not know any more.
    assert "Deprecated" not in done.stderr


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_to_the_pods_takes_its_files_from_a_secret(mutual: bool, tmp_path: Path) -> None:
    tls = {"secretName": "shop-tls", "name": "shop.example.org", "mutual": mutual}
    manifests = objects({"tls": tls})
    variables = {
        each["name"]: each["valueFrom"]["secretKeyRef"] for each in sidecar(manifests)["env"]
    }
    expected = {"BACKEND_TLS_AUTHORITY": "ca.crt"}
    if mutual:
        expected |= {"BACKEND_TLS_CERTIFICATE": "tls.crt", "BACKEND_TLS_KEY": "tls.key"}
    assert variables == {name: {"name": "shop-tls", "key": key} for name, key in expected.items()}
    config = tmp_path / "envoy.yaml"
    config.write_text(manifests["ConfigMap"]["data"]["envoy.yaml"])
    authority = trustme.CA()
    own = authority.issue_cert("client.example.org")
    environment = {
        "BACKEND_TLS_AUTHORITY": authority.cert_pem.bytes().decode(),
        "BACKEND_TLS_CERTIFICATE": own.cert_chain_pems[0].bytes().decode(),
        "BACKEND_TLS_KEY": own.private_key_pem.bytes().decode(),
    }
    done = subprocess.run(
        [str(find_envoy()), "--mode", "validate", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **{name: environment[name] for name in expected}},
    )
    assert f"configuration '{config}' OK" in done.stdout, done.stderr


def test_tls_to_the_pods_needs_a_name_to_check() -> None:
    with pytest.raises(ChartError) as caught:
        objects({"tls": {"secretName": "shop-tls"}})
    told = "envoy.tls.name is empty; give a name that the pods' certificates have"
    assert told in str(caught.value)


@each_variant
def test_the_pod_satisfies_the_restricted_pod_security_standard(envoy: dict[str, Any]) -> None:
    pod = objects(envoy)["Deployment"]["spec"]["template"]["spec"]
    assert restricted_violations(pod) == []
    assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in pod["containers"])


def test_the_image_is_pinned_and_may_come_from_elsewhere() -> None:
    assert sidecar(objects({}))["image"] == "docker.io/envoyproxy/envoy:v1.40.0"
    other = VARIANTS["other image"]
    assert sidecar(objects(other))["image"] == "registry:5000/envoyproxy/envoy:v1.39.1"


def test_it_reads_its_configuration_from_the_config_map() -> None:
    manifests = objects({})
    [volume] = manifests["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert volume == {"name": "envoy", "configMap": {"name": "rel-envoy"}}
    assert manifests["ConfigMap"]["metadata"]["name"] == "rel-envoy"
    [mount] = sidecar(manifests)["volumeMounts"]
    assert mount == {"name": "envoy", "mountPath": "/etc/envoy", "readOnly": True}


def test_pods_are_replaced_when_the_configuration_changes_and_not_otherwise() -> None:
    def annotations(envoy: Mapping[str, Any], **more: Any) -> dict[str, str]:
        template = objects(envoy, **more)["Deployment"]["spec"]["template"]
        told: dict[str, str] = template["metadata"]["annotations"]
        return told

    assert annotations({}) == annotations({})
    assert annotations({}) != annotations({"retries": 1})
    own = annotations({}, driver={"podAnnotations": {"team": "shop"}})
    assert own == annotations({}) | {"team": "shop"}


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_only_probes_are_answered_from_outside_the_pod(address: str) -> None:
    bootstrap = yaml.safe_load(
        objects({"probeAddress": address})["ConfigMap"]["data"]["envoy.yaml"]
    )
    assert bootstrap["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    places = {
        each["name"]: each["address"]["socket_address"]["address"]
        for each in bootstrap["static_resources"]["listeners"]
    }
    assert places == {"client": "127.0.0.1", "probes": address}


def test_the_pod_is_ready_when_envoy_is_and_has_hosts() -> None:
    container = sidecar(objects({"probePort": 7000}))
    port = {each["name"]: each["containerPort"] for each in container["ports"]}["envoy-probes"]
    assert port == 7000
    probed = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert probed == {
        "startupProbe": {"path": "/ready", "port": "envoy-probes"},
        "readinessProbe": {"path": "/hosts", "port": "envoy-probes"},
        "livenessProbe": {"path": "/ready", "port": "envoy-probes"},
    }


@pytest.mark.parametrize(
    ("envoy", "complaint"),
    [
        ({"workers": 0}, "at '/envoy/workers': minimum: got 0, want 1"),
        ({"dnsRefreshSeconds": 0}, "at '/envoy/dnsRefreshSeconds': minimum: got 0, want 0.01"),
        ({"dns": 1}, "at '/envoy': additional properties 'dns' not allowed"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(
    envoy: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ChartError) as caught:
        objects(envoy)
    assert str(caught.value).endswith(f"\nstrategy:\n- {complaint}")
