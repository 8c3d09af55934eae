"""One embedded cluster for all tests here; a namespace for each."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters import ClusterRequest
from pytest_grpclb.clusters.api.kube import NAMESPACES, KubeApi
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.kind.provider import KindProvider

from .pods import Pods
from .stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


@pytest.fixture
def stand_ins(
    embedded_cluster: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StandIns:
    made = StandIns.install(tmp_path / "stand-ins", kubeconfig=embedded_cluster.kubeconfig)
    monkeypatch.setenv("PATH", made.path_variable())
    for name in ("KIND_EXPERIMENTAL_PROVIDER", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return made


@pytest.fixture
def provider(stand_ins: StandIns, tmp_path: Path) -> Iterator[Callable[..., KindProvider]]:
    """Make providers as the workers of one run would, each with a folder of its own."""
    made: list[KindProvider] = []

    def make(**what: object) -> KindProvider:
        folder = tmp_path / f"worker{len(made)}"
        folder.mkdir()
        asked = replace(ClusterRequest(directory=folder, run="abc123"), **what)  # type: ignore[arg-type]
        made.append(KindProvider(asked))
        return made[-1]

    yield make
    for each in made:
        each.close()
