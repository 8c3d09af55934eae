"""Whole runs of repositories that bring a service of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from pytest_grpclb import __version__
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.kube import DEPLOYMENTS, PODS, SERVICES, KubeApi, Resource
from pytest_grpclb.clusters.namespaces import ABANDONED_AFTER
from pytest_grpclb.lending import delete_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOP = Path(__file__).parents[2] / "example_tests" / "shop"
EVEN = "tests/test_balancing.py::test_items_are_served_evenly"
SCALED = "tests/test_balancing.py::test_new_pods_get_their_share"
NAME = "shop.example.org"
OPEN = "python -m shop.server --listen {ip}:{port}"


def run(*arguments: str, at: Path = SHOP) -> subprocess.CompletedProcess[str]:
    """Run pytest as somebody would who stands in a repository."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=at,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


def test_the_shop_is_tested_under_every_strategy_that_spreads_calls() -> None:
    strategies = "headless,lookaside,envoy-sidecar,ingress-nginx"
    done = run(f"--grpclb-strategy={strategies}", "--grpclb-require")
    assert "8 passed" in done.stdout, done.stdout


def test_a_variant_without_reflection_is_tested_just_so() -> None:
    done = run(
        EVEN,
        f"--grpclb-command={OPEN} --no-reflection",
        "--grpclb-protos=shop/v1/catalog.proto",
        "--grpclb-proto-path=protos",
    )
    assert "1 passed" in done.stdout, done.stdout


# --- TLS of the service's own


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of an authority, a server and a client."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for who, certificate in (
        ("server", authority.issue_cert(NAME)),
        ("client", authority.issue_cert("client.example.org")),
    ):
        certificate.private_key_pem.write_to_path(folder / f"{who}.key")
        (folder / f"{who}.pem").write_bytes(
            b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        )
    return folder


def tls(authority: Path, *, mutual: bool) -> list[str]:
    files = [authority / "server.pem", authority / "server.key"]
    files += [authority / "ca.pem"] if mutual else []
    switches = [
        f"--grpclb-command={OPEN} --tls {','.join(map(str, files))}",
        f"--grpclb-tls-ca={authority / 'ca.pem'}",
        f"--grpclb-tls-name={NAME}",
    ]
    if mutual:
        switches += [
            f"--grpclb-tls-cert={authority / 'client.pem'}",
            f"--grpclb-tls-key={authority / 'client.key'}",
        ]
    return switches


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
def test_a_service_with_tls_of_its_own_is_called_with_credentials(
    authority: Path, *, mutual: bool
) -> None:
    done = run(*tls(authority, mutual=mutual))
    assert "2 passed" in done.stdout, done.stdout


TLS_TESTS = """
import pytest
from pytest_grpclb import (
    IngressSettings,
    assert_even_spread,
    assert_ingress_reachable,
    assert_no_failed_calls,
    assert_rebalanced,
)

@pytest.mark.grpclb_only("clusterip")
def test_called(grpclb):
    assert_no_failed_calls(grpclb.drive(calls=50))

@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
@pytest.mark.grpclb_skip("clusterip")
def test_even(grpclb):
    assert_even_spread(grpclb.drive())

@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
@pytest.mark.grpclb_skip("clusterip")
def test_scaled(grpclb):
    with grpclb.traffic(rate=500) as traffic:
        grpclb.scale(5)
        assert_rebalanced(traffic)

@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
@pytest.mark.grpclb_only("ingress-nginx")
def test_ingress(grpclb):
    assert_ingress_reachable(grpclb.ingress)
"""


@pytest.mark.parametrize(
    ("strategy", "mutual", "passed"),
    [
        ("clusterip", False, 1),
        ("clusterip", True, 1),
        ("envoy-sidecar", False, 2),
        ("envoy-sidecar", True, 2),
        ("ingress-nginx", False, 3),
    ],
)
def test_tls_to_the_pods_is_spoken_under_other_strategies_too(
    authority: Path, tmp_path: Path, *, strategy: str, mutual: bool, passed: int
) -> None:
    (tmp_path / "test_tls.py").write_text(TLS_TESTS)
    done = run(
        str(tmp_path),
        f"--rootdir={SHOP}",
        f"--config-file={SHOP / 'pyproject.toml'}",
        f"--grpclb-strategy={strategy}",
        *tls(authority, mutual=mutual),
        "--grpclb-require",
    )
    assert f"{passed} passed" in done.stdout, done.stdout
    assert "failed" not in done.stdout


def test_what_cannot_speak_tls_to_the_pods_says_so(authority: Path) -> None:
    done = run(
        EVEN,
        *tls(authority, mutual=True),
        "--grpclb-strategy=lookaside,ingress-nginx",
    )
    assert (
        "--grpclb-tls-ca: clients speak to the balancers of lookaside as they do to the pods, and "
        "those speak plaintext; mark such tests @pytest.mark.grpclb_skip('lookaside'), or test the "
        "service in plaintext"
    ) in done.stdout
    assert (
        "--grpclb-tls-ca: the ingress speaks plaintext to the pods; mark such tests "
        '@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))'
    ) in done.stdout


@pytest.mark.parametrize("strategy", ["headless", "envoy-sidecar"])
def test_a_name_that_the_certificates_have_not_is_refused_and_the_error_says_what_to_set(
    authority: Path, strategy: str
) -> None:
    named = tls(authority, mutual=False)
    done = run(EVEN, *named, "--grpclb-tls-name=other.example.org", f"--grpclb-strategy={strategy}")
    assert "1 error" in done.stdout, done.stdout
    [told] = [line for line in done.stdout.splitlines() if "TypesError: " in line]
    # Clients wait for a connection that is good; a proxy refuses the call.
    status = {"headless": "DEADLINE_EXCEEDED", "envoy-sidecar": "UNAVAILABLE"}[strategy]
    assert f" ended with {status}: " in told
    assert told.endswith(
        "; the service was not reached: say where its pods listen with --grpclb-service-port, and "
        "what they speak TLS with by --grpclb-tls-ca and --grpclb-tls-name"
    )


def test_a_service_with_tls_called_in_plaintext_is_told_so(authority: Path) -> None:
    done = run(EVEN, tls(authority, mutual=False)[0], "--grpclb-probe=tcp")
    assert "what they speak TLS with by --grpclb-tls-ca" in done.stdout, done.stdout


def test_calls_that_reach_nothing_are_told_with_what_to_set() -> None:
    done = run(
        EVEN,
        f"--grpclb-command={OPEN.replace('{port}', '50077')}",
        "--grpclb-probe=none",
        *("--grpclb-protos=shop/v1/catalog.proto", "--grpclb-proto-path=protos"),
        "--grpclb-timeout=2",
    )
    [told] = [line for line in done.stdout.splitlines() if "DriverError: " in line]
    assert " was answered during warm-up; the last one failed with UNAVAILABLE: " in told
    assert told.endswith(
        "; nothing of the service's answered: say where its pods listen with "
        "--grpclb-service-port, what they speak TLS with by --grpclb-tls-ca and "
        "--grpclb-tls-name, or raise --grpclb-timeout if it answers slowly"
    )


def test_a_file_that_is_no_certificate_is_named(authority: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    done = run(EVEN, *tls(authority, mutual=False), f"--grpclb-tls-ca={tmp_path / 'ca.pem'}")
    told = f"--grpclb-tls-ca: {str(tmp_path / 'ca.pem')!r} is no PEM; name a PEM file"
    assert told in done.stdout


# --- a service that runs already


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


# --- charts


def test_a_chart_s_own_error_is_helm_s(tmp_path: Path) -> None:
    (tmp_path / "chart" / "templates").mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (tmp_path / "chart" / "templates" / "bad.yaml").write_text("kind: {{ .Values.x | nofunction }}")
    done = run(EVEN, "--override-ini=grpclb_command=", f"--grpclb-chart={tmp_path / 'chart'}")
    assert f"chart '{tmp_path / 'chart'}' does not render: " in done.stdout
    assert 'function "nofunction" not defined' in done.stdout


# --- another language


@pytest.fixture(scope="module")
def go_greeter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server of grpc-go's examples: it listens on all addresses, and has no health service."""
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        pytest.skip("there is no Go toolchain here")
    folder = tmp_path_factory.mktemp("go")
    package = "google.golang.org/grpc/examples/helloworld/greeter_server"
    (folder / "go.mod").write_text("module example.org/shop\n\ngo 1.21\n")
    # Not `go install`: the examples' module replaces others, which that refuses.
    for arguments in (["get", f"{package}@latest"], ["build", "-o", "greeter", package]):
        done = subprocess.run(
            [go, *arguments], check=False, capture_output=True, text=True, cwd=folder
        )
        if done.returncode != 0:
            pytest.skip(f"go {arguments[0]} does not get the examples: {done.stderr[-300:]}")
    return folder / "greeter"


def test_a_service_in_go_is_tested_as_it_is(go_greeter: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\n"
        f"grpclb_command = '{go_greeter} -port {{port}}'\n"
        "grpclb_probe = 'tcp'\n"
        "grpclb_strategy = 'headless,envoy-sidecar'\n"
        "grpclb_method = 'helloworld.Greeter/SayHello'\n"
    )
    (tmp_path / "test_balancing.py").write_text(
        "import pytest\n"
        "from pytest_grpclb import assert_even_spread, assert_rebalanced\n\n"
        "def test_even(grpclb):\n"
        "    assert_even_spread(grpclb.drive())\n\n"
        "@pytest.mark.grpclb_only('envoy-sidecar')\n"  # its connections have no max age
        "def test_scaled(grpclb):\n"
        "    with grpclb.traffic(rate=500) as traffic:\n"
        "        grpclb.scale(5)\n"
        "        assert_rebalanced(traffic)\n"
    )
    done = run(at=tmp_path)
    assert "3 passed" in done.stdout, done.stdout
