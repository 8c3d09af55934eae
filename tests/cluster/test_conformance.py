"""Every provider that can be had here is held to the same contract."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters import PROVIDERS, ClusterRequest
from pytest_grpclb.clusters.kube import KubeApi
from pytest_grpclb.clusters.namespaces import create_namespace, delete_namespace
from pytest_grpclb.conformance import CHECKS, Subject
from pytest_grpclb.samples import greeter_values
from pytest_grpclb.settings import Settings

from .stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

RUN = "conformance-main"
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["embedded", "kind", "kubeconfig"])
def cluster(
    request: pytest.FixtureRequest,
    embedded_cluster: EmbeddedCluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """A cluster of each provider, started; what the others lead to is the embedded one."""
    if request.param == "embedded":
        yield embedded_cluster
        return
    asked = ClusterRequest(
        directory=tmp_path_factory.mktemp(request.param),
        image=embedded_cluster.programs_image,
        kubeconfig=str(embedded_cluster.kubeconfig),
        context=embedded_cluster.context,
    )
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "kind":
            asked = replace(asked, image="")  # it is built, as stand-ins build
            patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
            stand_ins = StandIns.install(
                tmp_path_factory.mktemp("stand-ins") / "it",
                kubeconfig=embedded_cluster.kubeconfig,
            )
            patch.setenv("PATH", stand_ins.path_variable())
        made = PROVIDERS[request.param](asked)
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
def subject(cluster: Cluster, cluster_api: KubeApi) -> Iterator[Subject]:
    namespace = f"grpclb-{RUN}-{next(_numbers)}"
    values = greeter_values(Settings(replicas=2), image=cluster.programs_image)
    values |= {"preStopSleepSeconds": 1, "drainSeconds": 1}
    create_namespace(cluster_api, namespace, run=RUN)
    try:
        yield Subject(
            cluster=cluster,
            api=cluster_api,
            namespace=namespace,
            run=RUN,
            manifests=render(
                charts_directory() / "greeter",
                values=values,
                release="greeter",
                namespace=namespace,
            ),
        )
    finally:
        delete_namespace(cluster_api, namespace, run=RUN)


@pytest.mark.parametrize("check", CHECKS)
def test_provider_passes(subject: Subject, check: str) -> None:
    CHECKS[check](subject)
