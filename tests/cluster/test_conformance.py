"""Every provider is held to the same contract.

kind and kubeconfig lead to an embedded cluster here, by stand-ins. With ``--grpclb-cluster``, it is
that provider alone, and a real cluster.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters import PROVIDERS, ClusterRequest
from pytest_grpclb.clusters.api.kube import KubeApi, Resource
from pytest_grpclb.clusters.namespaces import create_namespace, delete_namespace
from pytest_grpclb.conformance import CHECKS, Subject
from pytest_grpclb.errors import ApiError, ClusterUnavailableError, DriverError
from pytest_grpclb.fixtures import OPTIONS, RUN
from pytest_grpclb.samples import greeter_values
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies.lookaside import Lookaside

from .stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
    from pytest_grpclb.fixtures import RunningCluster
    from pytest_grpclb.model import Target

ROLES = Resource("rbac.authorization.k8s.io/v1", "roles", namespaced=True)
BINDINGS = Resource("rbac.authorization.k8s.io/v1", "rolebindings", namespaced=True)
_numbers = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    real = metafunc.config.stash[OPTIONS].cluster
    providers = ["embedded", "kind", "kubeconfig"] if real == "embedded" else [f"real {real}"]
    metafunc.parametrize("cluster", providers, indirect=True, scope="module")


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster of each provider, started; what the others lead to is the embedded one."""
    if request.param.startswith("real "):
        real: RunningCluster = request.getfixturevalue("grpclb_cluster")
        yield real.cluster
        return
    embedded_cluster: EmbeddedCluster = request.getfixturevalue("embedded_cluster")
    if request.param == "embedded":
        yield embedded_cluster
        return
    https = embedded_cluster.ingress_address(https=True)
    http = embedded_cluster.ingress_address(https=False)
    asked = ClusterRequest(
        directory=tmp_path_factory.mktemp(request.param),
        image=embedded_cluster.programs_image,
        kubeconfig=str(embedded_cluster.kubeconfig),
        context=embedded_cluster.context,
        ingress=f"{https}:{http.rpartition(':')[2]}" if request.param == "kubeconfig" else "",
    )
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "kind":
            asked = replace(asked, image="")  # it is built, as stand-ins build
            patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
            stand_ins = StandIns.install(
                tmp_path_factory.mktemp("stand-ins") / "it",
                kubeconfig=embedded_cluster.kubeconfig,
                ingress={"443/tcp": https, "80/tcp": http},
            )
            patch.setenv("PATH", stand_ins.path_variable())
        made = PROVIDERS[request.param](asked)
        # The DNS that they lead to here remembers nothing.
        patch.setattr(made, "dns_cache_s", 1.0)
        try:
            made.start()
            made.wait()
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def cluster_api(cluster: Cluster) -> Iterator[KubeApi]:
    api = KubeApi(cluster.kubeconfig, cluster.context)
    yield api
    api.close()


@pytest.fixture
def subject(
    request: pytest.FixtureRequest, cluster: Cluster, cluster_api: KubeApi
) -> Iterator[Subject]:
    options = request.config.stash[OPTIONS]
    run = f"conformance-{request.config.stash[RUN]}"
    namespace = f"grpclb-{run}-{next(_numbers)}"
    values = greeter_values(Settings(replicas=2), image=cluster.programs_image)
    values |= options.own_pods.sample_values()
    values |= {"preStopSleepSeconds": 1, "drainSeconds": 1}
    create_namespace(cluster_api, namespace, run=run)
    try:
        yield Subject(
            cluster=cluster,
            api=cluster_api,
            namespace=namespace,
            run=run,
            manifests=render(
                charts_directory() / "greeter",
                values=values,
                release="greeter",
                namespace=namespace,
            ),
        )
    finally:
        delete_namespace(cluster_api, namespace, run=run)


@pytest.mark.parametrize("check", CHECKS)
def test_provider_passes(subject: Subject, check: str) -> None:
    CHECKS[check](subject)


# --- what a check is worth: it fails, or is skipped, where it should


def test_a_cluster_without_service_records_does_not_pass(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that ask for none are told of none; the balancers' own addresses answer no call."""
    target = Lookaside.target

    def without(*given: Any, **named: Any) -> Target:
        found = target(*given, **named)
        kept = tuple(each for each in found.arguments if each[0] != "grpc.dns_enable_srv_queries")
        return replace(found, arguments=kept)

    monkeypatch.setattr(Lookaside, "target", without)
    with pytest.raises(DriverError, match=r"^no call to dns:///grpclb-lookaside\."):
        CHECKS["service_records_lead_to_named_ports"](replace(subject, timeout_s=5.0))


def test_an_account_that_may_do_more_than_roles_say_does_not_pass(subject: Subject) -> None:
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    account = {"kind": "ServiceAccount", "name": "free", "namespace": subject.namespace}
    subject.create(ROLES, {"metadata": {"name": "everything"}, "rules": everything})
    subject.create(
        BINDINGS,
        {
            "metadata": {"name": "everything"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "everything",
            },
            "subjects": [account],
        },
    )
    with pytest.raises(AssertionError, match=r"^account 'free' was answered so on "):
        CHECKS["role_is_what_lets_a_service_account_in"](subject)


def test_who_may_not_make_roles_is_not_held_to_them(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ApiError("POST", "/roles", status=403, reason="Forbidden", message="no, you may not")

    monkeypatch.setattr(Subject, "create", refuse)
    with pytest.raises(pytest.skip.Exception) as caught:
        CHECKS["role_is_what_lets_a_service_account_in"](subject)
    assert str(caught.value) == "whoever asks may not make roles: no, you may not"


def test_a_cluster_without_an_ingress_controller_is_not_held_to_one(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_self: Cluster, *, https: bool) -> str:
        raise ClusterUnavailableError("any", reason=f"no ingress ({https})", advice="install one")

    monkeypatch.setattr(type(subject.cluster), "ingress_address", missing)
    with pytest.raises(pytest.skip.Exception) as caught:
        CHECKS["ingress_shows_its_certificate_and_follows_pods"](subject)
    assert str(caught.value) == (
        "cluster provider 'any' cannot be used here: no ingress (True); install one"
    )
