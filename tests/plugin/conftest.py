from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.api.kube import NAMESPACES, KubeApi
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from tests.cluster.stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs are configured by their tests alone, and print alike wherever the tests run."""
    # With CI or BUILD_NUMBER set, pytest prints the lines of its summary whole.
    for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    # Under xdist, the outer run's name would become the name of every inner one.
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A cluster that is there before the runs and after them."""
    stand_in = str(Path(__file__).parents[1] / "cluster" / "stand_ins" / "controller.py")
    cluster = EmbeddedCluster(
        tmp_path_factory.mktemp("existing") / "cluster",
        images={
            "registry.k8s.io/ingress-nginx/controller": [
                sys.executable,
                "-P",
                stand_in,
                "{ip}",
            ]
        },
    )
    try:
        cluster.start()
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def namespaces(existing: EmbeddedCluster) -> Iterator[Callable[[], set[str]]]:
    """Return the namespaces that runs have made and that stay."""
    api = KubeApi(existing.kubeconfig, existing.context)

    def find() -> set[str]:
        return {
            each["metadata"]["name"]
            for each in api.list(NAMESPACES)
            if each["metadata"]["name"].startswith("grpclb-")
            and "deletionTimestamp" not in each["metadata"]
        }

    yield find
    for name in find():
        api.delete(NAMESPACES, "", name)
    api.close()


@pytest.fixture
def stand_ins(
    existing: EmbeddedCluster, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> StandIns:
    made = StandIns.install(
        pytester.path / "stand-ins",
        kubeconfig=existing.kubeconfig,
        ingress={
            "80/tcp": existing.ingress_address(https=False),
            "443/tcp": existing.ingress_address(https=True),
        },
    )
    monkeypatch.setenv("PATH", made.path_variable())
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))
    return made
