"""What holds for both charts: Helm's own checks, Pod Security, and labels that fit one another."""

from __future__ import annotations

import json
from typing import Any

import helm_python
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_grpclb import __version__
from pytest_grpclb.chart import charts_directory, render

SELECTOR = {"app": "shop"}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("greeter", {}),
    (
        "greeter",
        {
            "replicaCount": 0,
            "image": {"repository": "registry:5000/team/pytest-grpclb", "tag": "1.0"},
            "imagePullSecrets": [{"name": "registry"}],
            "maxConnectionAge": {"seconds": 0.5, "graceSeconds": None},
            "preStopSleepSeconds": 0,
            "extraArgs": ["--delay-ms=3"],
            "extraEnv": [{"name": "GRPC_VERBOSITY", "value": "debug"}],
            "podAnnotations": {"sidecar.istio.io/inject": "false"},
            "podLabels": {"team": "shop"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
        },
    ),
    ("strategy", {"backend": {"selector": SELECTOR}}),
    ("strategy", {"strategy": "headless", "backend": {"selector": SELECTOR, "port": 8080}}),
    ("strategy", {"strategy": "clusterip", "backend": {"selector": SELECTOR, "targetPort": "g"}}),
    (
        "strategy",
        {
            "backend": {"selector": SELECTOR, "targetPort": 9090, "portName": "api"},
            "fullnameOverride": "shop",
            "imagePullSecrets": [{"name": "registry"}],
            "driver": {
                "image": {"repository": "registry:5000/pytest-grpclb", "tag": "1.0"},
                "extraEnv": [{"name": "GRPC_VERBOSITY", "value": "debug"}],
                "podAnnotations": {"sidecar.istio.io/inject": "false"},
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"operator": "Exists"}],
                "affinity": {"podAntiAffinity": {}},
            },
        },
    ),
]
each_variant = pytest.mark.parametrize(("name", "values"), VARIANTS)
each_chart = pytest.mark.parametrize("name", ["greeter", "strategy"])


def objects(
    name: str, values: dict[str, Any], *, release: str = "rel", namespace: str = "ns"
) -> dict[str, Any]:
    """Render a chart and return its objects by kind; there is one of each."""
    chart = charts_directory() / name
    manifests = render(chart, values=values, release=release, namespace=namespace)
    by_kind: dict[str, Any] = {manifest["kind"]: manifest for manifest in manifests}
    assert len(by_kind) == len(manifests)
    return by_kind


def restricted_violations(pod: dict[str, Any]) -> list[str]:
    """Return what the restricted Pod Security Standard has against the spec of a pod.

    :source: Kubernetes documentation, "Pod Security Standards"
    """
    security = pod.get("securityContext", {})
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
    for volume in pod.get("volumes", []):
        found += [f"volume of type {kind}" for kind in volume.keys() - allowed - {"name"}]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        context = security | container.get("securityContext", {})
        found += [] if context.get("runAsNonRoot") is True else ["may run as root"]
        found += ["runs as root"] if context.get("runAsUser") == 0 else []
        found += [] if context.get("allowPrivilegeEscalation") is False else ["may escalate"]
        found += ["is privileged"] if context.get("privileged") else []
        profile = context.get("seccompProfile", {}).get("type")
        found += [] if profile in {"RuntimeDefault", "Localhost"} else ["no seccomp profile"]
        capabilities = context.get("capabilities", {})
        found += [] if capabilities.get("drop") == ["ALL"] else ["keeps capabilities"]
        added = set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}
        found += [f"adds {each}" for each in sorted(added)]
        found += ["uses a host port" for port in container.get("ports", []) if "hostPort" in port]
    return found


def test_the_check_itself_sees_a_pod_that_is_not_restricted() -> None:
    bare = {"containers": [{"name": "a"}], "hostNetwork": True, "volumes": [{"hostPath": {}}]}
    assert restricted_violations(bare) == [
        "hostNetwork is set",
        "volume of type hostPath",
        "may run as root",
        "may escalate",
        "no seccomp profile",
        "keeps capabilities",
    ]


# --- the charts as such


@each_chart
def test_its_app_version_is_the_packages(name: str) -> None:
    metadata = yaml.safe_load((charts_directory() / name / "Chart.yaml").read_text())
    assert metadata["appVersion"] == __version__
    assert metadata["name"] == name


@each_variant
def test_helm_lint_finds_nothing(name: str, values: dict[str, Any]) -> None:
    report = helm_python.lint(charts_directory() / name, values, strict=True)
    assert report["errors"] == []
    # An icon is for catalogues of applications; severity 1 is information.
    assert report["messages"] == [
        {"severity": 1, "path": "Chart.yaml", "error": "icon is recommended"}
    ]


@each_chart
def test_every_default_value_is_explained_and_in_the_schema(name: str) -> None:
    schema = json.loads((charts_directory() / name / "values.schema.json").read_text())
    defaults = yaml.safe_load((charts_directory() / name / "values.yaml").read_text())
    readme = (charts_directory() / name / "README.md").read_text()
    assert set(defaults) == set(schema["properties"]) - {"global"}
    assert [key for key in defaults if f"`{key}" not in readme] == []


# --- what they render to


@each_variant
def test_pods_satisfy_the_restricted_pod_security_standard(
    name: str, values: dict[str, Any]
) -> None:
    pod = objects(name, values)["Deployment"]["spec"]["template"]["spec"]
    assert restricted_violations(pod) == []
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}


@each_variant
def test_containers_are_probed_by_grpc_on_their_own_port(name: str, values: dict[str, Any]) -> None:
    [container] = objects(name, values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    [port] = container["ports"]
    assert port["name"] == "grpc"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"] == {"port": port["containerPort"]}


@each_variant
def test_all_objects_carry_the_recommended_labels_and_the_namespace(
    name: str, values: dict[str, Any]
) -> None:
    for manifest in objects(name, values).values():
        assert manifest["metadata"]["namespace"] == "ns"
        labels = manifest["metadata"]["labels"]
        assert labels.pop("app.kubernetes.io/component") in {
            "backend",
            "driver",
            "headless",
            "clusterip",
        }
        assert labels == {
            "helm.sh/chart": f"{name}-0.1.0",
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/instance": "rel",
            "app.kubernetes.io/version": __version__,
            "app.kubernetes.io/part-of": "pytest-grpclb",
            "app.kubernetes.io/managed-by": "Helm",
        }


@each_variant
@pytest.mark.parametrize("word", ["y", "null", "on", "1e3", "123", "0x1f"])
def test_names_that_yaml_takes_for_something_else_stay_text(
    name: str, values: dict[str, Any], word: str
) -> None:
    more = {"fullnameOverride": word}
    more |= {"nameOverride": word} if name == "greeter" else {}
    manifests = objects(name, values | more, release=word, namespace=word)
    assert_sound(manifests)
    for manifest in manifests.values():
        assert manifest["metadata"]["namespace"] == word
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == word
        assert manifest["metadata"]["name"] in {
            word,
            *(f"{word}-{suffix}" for suffix in ("headless", "clusterip", "driver")),
        }


# --- for all values

release_names = st.from_regex(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", fullmatch=True)
ports = st.integers(min_value=1, max_value=65535)
label_values = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?", fullmatch=True)
labels = st.dictionaries(
    st.from_regex(r"([a-z]{1,9}(\.[a-z]{1,9})?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,9}[A-Za-z0-9])?",
                  fullmatch=True),
    label_values,
    max_size=4,
)  # fmt: skip
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)
seconds = st.none() | st.floats(min_value=0.001, max_value=1e9) | st.integers(1, 10**9)


def assert_sound(manifests: dict[str, Any]) -> None:
    """Whatever the values: selectors select, names are DNS labels, environment is text."""
    deployment = manifests["Deployment"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for manifest in manifests.values():
        assert all(isinstance(each, str) for each in manifest["metadata"]["labels"].values())
        assert 0 < len(manifest["metadata"]["name"]) <= 63
        assert not manifest["metadata"]["name"].endswith("-")
    assert restricted_violations(deployment["spec"]["template"]["spec"]) == []
    for entry in deployment["spec"]["template"]["spec"]["containers"][0].get("env", []):
        assert isinstance(entry.get("value", ""), str)


@settings(deadline=None, max_examples=60)
@given(release=release_names, container_port=ports, port=ports, replicas=st.integers(0, 10**6),
       age=seconds, grace=seconds, sleep=st.integers(0, 40), drain=st.integers(1, 40),
       spare=st.integers(0, 10**6), pod_labels=labels, tag=tags)  # fmt: skip
def test_the_greeter_renders_for_all_values(
    *,
    release: str,
    container_port: int,
    port: int,
    replicas: int,
    age: float | None,
    grace: float | None,
    sleep: int,
    drain: int,
    spare: int,
    pod_labels: dict[str, str],
    tag: str,
) -> None:
    values = {
        "image": {"tag": tag},
        "replicaCount": replicas,
        "containerPort": container_port,
        "service": {"port": port},
        "maxConnectionAge": {"seconds": age, "graceSeconds": grace},
        "preStopSleepSeconds": sleep,
        "drainSeconds": drain,
        "terminationGracePeriodSeconds": sleep + drain + spare,
        "podLabels": pod_labels,
    }
    manifests = objects("greeter", values, release=release)
    assert_sound(manifests)
    spec = manifests["Deployment"]["spec"]
    assert spec["replicas"] == replicas
    pod = spec["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == sleep + drain + spare
    [container] = pod["containers"]
    assert container["image"] == f"pytest-grpclb:{tag}"
    assert container["ports"][0]["containerPort"] == container_port
    assert f"--port={container_port}" in container["args"]
    environment = {each["name"]: float(each["value"]) for each in container["env"]
                   if "value" in each}  # fmt: skip
    expected: dict[str, float] = {"GRPCLB_DRAIN_S": drain}
    if age is not None:
        expected |= {"GRPC_MAX_CONNECTION_AGE": age}
        expected |= {} if grace is None else {"GRPC_MAX_CONNECTION_AGE_GRACE": grace}
    assert environment == expected
    assert manifests["Service"]["spec"]["ports"][0]["port"] == port
    assert manifests["Service"]["spec"]["selector"] == spec["selector"]["matchLabels"]
    assert pod_labels.items() <= spec["template"]["metadata"]["labels"].items()


@settings(deadline=None, max_examples=60)
@given(release=release_names, strategy=st.sampled_from(["headless", "clusterip"]), port=ports,
       target=st.none() | ports | st.from_regex(r"[a-z]([-a-z0-9]{0,13}[a-z0-9])?", fullmatch=True),
       driver_port=ports, selector=labels.filter(bool))  # fmt: skip
def test_the_strategy_renders_for_all_values(
    *,
    release: str,
    strategy: str,
    port: int,
    target: int | str | None,
    driver_port: int,
    selector: dict[str, str],
) -> None:
    values = {
        "strategy": strategy,
        "backend": {"selector": selector, "port": port, "targetPort": target},
        "driver": {"port": driver_port},
    }
    manifests = objects("strategy", values, release=release)
    assert_sound(manifests)
    service = manifests["Service"]
    assert service["metadata"]["name"] == f"{release}-{strategy}"
    assert service["spec"]["selector"] == selector
    assert service["spec"]["ports"][0]["port"] == port
    assert service["spec"]["ports"][0]["targetPort"] == (port if target is None else target)
    [container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == driver_port
    assert container["args"] == ["driver", f"--port={driver_port}"]


MESH = {
    "labels": {
        "sidecar.istio.io/inject": "false",
        "istio.io/dataplane-mode": "none",
        "kuma.io/sidecar-injection": "disabled",
    },
    "annotations": {
        "linkerd.io/inject": "disabled",
        "consul.hashicorp.com/connect-inject": "false",
    },
}
"""What keeps proxies out of pods.

:source: Istio, "Installing the Sidecar", "Add workloads to the mesh" (ambient); Linkerd, "Automatic
    Proxy Injection"; Kuma, "Data plane proxy on Kubernetes"; Consul, "Annotations and labels"
"""


def pods_of(name: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    manifests = render(charts_directory() / name, values=values, release="rel", namespace="ns")
    found = [each["spec"]["template"] for each in manifests if each["kind"] == "Deployment"]
    assert found
    return found


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *VARIANTS,
        ("strategy", {"strategy": "lookaside", "backend": {"selector": SELECTOR}}),
        ("strategy", {"strategy": "envoy-sidecar", "backend": {"selector": SELECTOR}}),
    ],
)
def test_no_mesh_puts_its_proxy_beside_what_measures(name: str, values: dict[str, Any]) -> None:
    for pod in pods_of(name, values):
        for kind, wanted in MESH.items():
            assert pod["metadata"][kind].items() >= wanted.items()


@pytest.mark.parametrize("of", ["", "driver", "balancer"])
def test_who_wants_a_mesh_can_have_it(of: str) -> None:
    own = {
        "podLabels": {"sidecar.istio.io/inject": "true"},
        "podAnnotations": {"linkerd.io/inject": "enabled"},
    }
    values = {"strategy": "lookaside", "backend": {"selector": SELECTOR}, of: own}
    pods = pods_of("strategy", values) if of else pods_of("greeter", own)
    found = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"] for pod in pods
    }
    metadata = found[of or "backend"]
    assert metadata["labels"]["sidecar.istio.io/inject"] == "true"
    assert metadata["labels"]["istio.io/dataplane-mode"] == "none"
    assert metadata["annotations"]["linkerd.io/inject"] == "enabled"
