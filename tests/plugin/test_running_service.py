"""A service that runs already: looked at, lent, and left as it was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb import __version__
from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, PODS, SERVICES, KubeApi, Resource
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.namespaces import ABANDONED_AFTER
from pytest_grpclb.clusters.pods.watch import PodWatch
from pytest_grpclb.lending import delete_abandoned

from .test_own_service import EVEN, OPEN, SCALED, SHOP, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """Somebody's cluster, in which the shop has been open for long."""
    cluster = EmbeddedCluster(
        tmp_path_factory.mktemp("existing") / "cluster",
        images={"shop": OPEN.split()},
        commands_directory=SHOP,
    )
    try:
        cluster.start()
        cluster.wait()
        with closing(KubeApi(cluster.kubeconfig, cluster.context)) as api:
            api.apply(
                [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}}],
                namespace="",
            )
            api.apply(prod(), namespace="prod")
        yield cluster
    finally:
        cluster.close()


def prod() -> list[dict[str, Any]]:
    container = {
        "name": "shop",
        "image": "shop",
        "env": [
            {"name": "SHOP_MAX_CONNECTION_AGE", "value": "1"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "ports": [{"name": "api", "containerPort": 8080}],
        "readinessProbe": {"grpc": {"port": 8080}},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "shop"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 443, "targetPort": "api"}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "shop"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "shop"}},
                "template": {
                    "metadata": {"labels": {"app": "shop"}},
                    "spec": {"containers": [container]},
                },
            },
        },
    ]


@pytest.fixture
def api(existing: EmbeddedCluster) -> Iterator[KubeApi]:
    with closing(KubeApi(existing.kubeconfig, existing.context)) as api:
        yield api


def running(existing: EmbeddedCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(
        *arguments,
        "--override-ini=grpclb_command=",
        "--override-ini=grpclb_connection_age_env=",
        *cluster_options(existing),
    )


def cluster_options(existing: EmbeddedCluster) -> tuple[str, ...]:
    return (
        "--grpclb-cluster=kubeconfig",
        f"--grpclb-kubeconfig={existing.kubeconfig}",
        f"--grpclb-context={existing.context}",
        f"--grpclb-ingress={existing.ingress_address(https=True)}",
        f"--grpclb-image=pytest-grpclb:{__version__}",
    )


def in_prod(api: KubeApi) -> dict[str, tuple[str, str]]:
    """Return UID and labels of every object in the namespace that does not come and go."""
    kinds = [
        SERVICES,
        DEPLOYMENTS,
        Resource("v1", "configmaps", namespaced=True),
        Resource("v1", "secrets", namespaced=True),
        Resource("networking.k8s.io/v1", "ingresses", namespaced=True),
        Resource("v1", "serviceaccounts", namespaced=True),
        Resource("rbac.authorization.k8s.io/v1", "roles", namespaced=True),
        Resource("rbac.authorization.k8s.io/v1", "rolebindings", namespaced=True),
    ]
    return {
        f"{where.plural}/{each['metadata']['name']}": (
            each["metadata"]["uid"],
            str(each["metadata"].get("labels")),
        )
        for where in kinds
        for each in api.list(where, "prod")
    }


def pods_of_the_shop(api: KubeApi) -> set[str]:
    return {pod["metadata"]["uid"] for pod in api.list(PODS, "prod", selector="app=shop")}


@pytest.mark.parametrize("strategy", ["headless", "lookaside", "envoy-sidecar", "ingress-nginx"])
def test_a_running_service_is_looked_at_and_left_as_it_was(
    existing: EmbeddedCluster, api: KubeApi, strategy: str
) -> None:
    before, pods = in_prod(api), pods_of_the_shop(api)
    done = running(
        existing, EVEN, "--grpclb-service=prod/shop:443", f"--grpclb-strategy={strategy}"
    )
    assert "1 passed" in done.stdout, done.stdout
    assert (in_prod(api), pods_of_the_shop(api)) == (before, pods)


def test_secrets_for_pulling_lie_beside_a_running_service_for_as_long_as_the_test(
    existing: EmbeddedCluster, api: KubeApi, tmp_path: Path
) -> None:
    secrets = Resource("v1", "secrets", namespaced=True)
    body = {
        "metadata": {"name": "registry"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "e30="},
    }
    api.request("POST", secrets.path("default"), body=body)
    before = in_prod(api)
    (tmp_path / "test_look.py").write_text(
        "from pytest_grpclb.clusters.api.kube import PODS, Resource\n\n"
        "def test_look(grpclb, grpclb_cluster, grpclb_namespace):\n"
        "    secrets = Resource('v1', 'secrets', namespaced=True)\n"
        "    name = f'{grpclb_namespace}-pull-registry'\n"
        "    grpclb_cluster.api.get(secrets, 'prod', name)\n"
        "    pods = grpclb_cluster.api.list(PODS, 'prod', "
        "selector='app.kubernetes.io/component=driver')\n"
        "    assert [pod['spec']['imagePullSecrets'] for pod in pods] == [[{'name': name}]]\n"
    )
    done = running(
        existing,
        str(tmp_path),
        f"--rootdir={tmp_path}",
        "--grpclb-service=prod/shop:443",
        "--grpclb-image-pull-secret=default/registry",
    )
    assert "1 passed" in done.stdout, done.stdout
    assert in_prod(api) == before
    api.delete(secrets, "default", "registry")


@pytest.mark.parametrize("strategy", ["lookaside", "envoy-sidecar", "ingress-nginx"])
def test_what_a_killed_run_has_left_beside_a_running_service_goes_later(
    existing: EmbeddedCluster, api: KubeApi, tmp_path: Path, strategy: str
) -> None:
    before, pods = in_prod(api), pods_of_the_shop(api)
    reached = tmp_path / "reached"
    (tmp_path / "test_long.py").write_text(
        "import pathlib, signal\n\n"
        "def test_long(grpclb):\n"
        f"    pathlib.Path({str(reached)!r}).touch()\n"
        "    signal.pause()\n"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)),
            *(f"--rootdir={tmp_path}", f"--grpclb-strategy={strategy}"),
            *("--grpclb-method=shop.v1.Catalog/GetItem", "--grpclb-service=prod/shop"),
            *cluster_options(existing),
        ],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        while not reached.exists():
            assert process.poll() is None
            time.sleep(0.05)  # the pause between two looks
    finally:
        process.kill()
        process.wait()
    left = in_prod(api).keys() - before.keys()
    assert left
    told: list[str] = []
    delete_abandoned(api, "prod", tell=told.append)
    assert told == []  # it may still run, as far as anybody can know
    later = datetime.now(UTC) + ABANDONED_AFTER + timedelta(minutes=5)
    delete_abandoned(api, "prod", tell=told.append, now=later)
    assert len(told) == len(left)
    assert (in_prod(api), pods_of_the_shop(api)) == (before, pods)


def test_a_test_that_scales_it_needs_leave(existing: EmbeddedCluster, api: KubeApi) -> None:
    pods = pods_of_the_shop(api)
    done = running(existing, SCALED, "--grpclb-service=prod/shop")
    assert (
        "--grpclb-service: a test wants to scale 'shop', which runs already and is only looked at; "
        "allow that with --grpclb-service-changes, or keep such tests from it"
    ) in done.stdout
    assert pods_of_the_shop(api) == pods


@pytest.fixture
def bystander(api: KubeApi) -> Iterator[str]:
    """Another workload of the namespace, which is nobody's business here."""
    [_, shop] = prod()
    spec = shop["spec"]
    labels = {"app": "bystander"}
    template = {**spec["template"], "metadata": {"labels": labels}}
    spec = {**spec, "replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    api.apply([{**shop, "metadata": {"name": "bystander"}, "spec": spec}], namespace="prod")
    watch = PodWatch(api, "prod", labels)
    try:
        assert watch.wait_for(lambda pods: any(pod.ready for pod in pods), timeout_s=30)
        yield "bystander"
    finally:
        watch.close()
        api.delete(DEPLOYMENTS, "prod", "bystander")


def test_artifacts_are_of_the_service_and_of_the_run_and_of_nobody_else(
    existing: EmbeddedCluster, api: KubeApi, bystander: str, tmp_path: Path
) -> None:
    pods = {pod["metadata"]["name"] for pod in api.list(PODS, "prod", selector="app=shop")}
    options = ("--grpclb-service=prod/shop", "--grpclb-strategy=lookaside")
    done = running(existing, SCALED, *options, f"--grpclb-artifacts={tmp_path}")
    assert "1 failed" in done.stdout, done.stdout
    [saved] = tmp_path.iterdir()
    files = {path.name: path.read_text() for path in saved.iterdir()}
    assert files.keys() >= {"failure.txt", "describe.txt", "events.txt", "objects.json"}
    assert files.keys() >= {f"{name}.log" for name in pods}
    objects = json.loads(files["objects.json"])
    names = {
        plural: {each["metadata"]["name"] for each in found} for plural, found in objects.items()
    }
    assert names["pods"] > pods
    own = names["deployments"] - {"shop"}
    assert own
    assert all(name.startswith("grpclb-") for name in own)
    assert all(name in files["events.txt"] for name in own)
    assert names["statefulsets"] == set()
    assert [name for name, text in files.items() if bystander in text or bystander in name] == []


def test_with_leave_it_is_scaled_and_afterwards_as_large_as_before(
    existing: EmbeddedCluster, api: KubeApi
) -> None:
    before = in_prod(api)
    done = running(existing, SCALED, "--grpclb-service=prod/shop", "--grpclb-service-changes")
    assert "1 passed" in done.stdout, done.stdout
    assert in_prod(api) == before
    assert api.get(DEPLOYMENTS, "prod", "shop")["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("prod/shup", "there is no Service 'prod/shup'; the namespace has: shop"),
        (
            "prod/shop:80",
            "the Service 'prod/shop' should have port 80, it has: :443; say which with "
            "--grpclb-service=prod/shop:PORT",
        ),
        (
            "default/kubernetes",
            "the Service 'default/kubernetes' has no selector; name one that selects the pods "
            "which answer",
        ),
    ],
)
def test_a_service_that_is_not_there_is_named_with_those_that_are(
    existing: EmbeddedCluster, service: str, message: str
) -> None:
    done = running(existing, EVEN, f"--grpclb-service={service}")
    assert f"--grpclb-service: {message}" in done.stdout, done.stdout


def test_replicas_that_a_running_service_has_not_need_leave(existing: EmbeddedCluster) -> None:
    done = running(existing, EVEN, "--grpclb-service=prod/shop", "--grpclb-replicas=7")
    assert (
        "--grpclb-service: the test asks for 7 replicas, 'prod/shop' has 2 ready pods; allow tests "
        "to scale it with --grpclb-service-changes, or ask for as many as there are"
    ) in done.stdout, done.stdout
