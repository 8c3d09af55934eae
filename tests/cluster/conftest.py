"""One embedded cluster for all tests here; a namespace for each."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.kube import NAMESPACES, KubeApi

from .pods import Pods

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def embedded_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(
        tmp_path_factory.mktemp("embedded") / "cluster",
        images={"python": ["python"], "shell": ["sh"]},
    )
    try:
        cluster.start()
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def api(embedded_cluster: EmbeddedCluster) -> Iterator[KubeApi]:
    api = KubeApi(embedded_cluster.kubeconfig, embedded_cluster.context)
    yield api
    api.close()


@pytest.fixture
def namespace(api: KubeApi) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    api.request("POST", NAMESPACES.path(), body={"metadata": {"name": name}})
    yield name
    api.delete(NAMESPACES, "", name)


@pytest.fixture
def pods(api: KubeApi, namespace: str) -> Pods:
    return Pods(api, namespace)
