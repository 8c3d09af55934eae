"""A cluster with images of services of one's own, and what installs them there."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import KubeApi
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.deployment import Deployment
from pytest_grpclb.settings import Settings

from .services import SHOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.sources.protocol import Source

SERVER = ["python", "-m", "shop.server"]
OPEN = [*SERVER, "--listen", "{ip}:{port}"]
IMAGES = {
    "shop": OPEN,
    "everywhere": [*SERVER, "--listen", "0.0.0.0:{port}"],
    "taken": [*SERVER, "--listen", "[::]:50051"],
    "late": ["sh", "-c", 'sleep 2; exec "$@"', "-", *SERVER, "--listen", "[::]:50051"],
    "deaf": ["sleep", "1000"],
    "unhealthy": [*OPEN, "--no-health"],
    "elsewhere": [*SERVER, "--listen", "{ip}:50077"],
    "missing": ["no-such-program", "{ip}"],
    "ends": ["sh", "-c", "echo no configuration; exit 3"],
    "configured": [
        *("sh", "-c", 'test "$GREETING $PASSWORD" = "hello secret" && exec "$@"', "-"),
        *OPEN,
    ],
    "reads": ["sh", "-c", 'cat /etc/shop/name && exec "$@"', "-", *OPEN],
    "led": ["sh", "-c", 'cat {root}/etc/shop/name && exec "$@"', "-", *OPEN],
    "slow": ["sh", "-c", 'sleep 3; exec "$@"', "-", *OPEN],
    "after 20 s": ["sh", "-c", 'sleep 20; exec "$@"', "-", *OPEN],
    "python": ["python"],
}


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(
        tmp_path_factory.mktemp("own") / "cluster", images=IMAGES, commands_directory=SHOP
    )
    try:
        cluster.start()
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="package")
def api(cluster: EmbeddedCluster) -> Iterator[KubeApi]:
    with closing(KubeApi(cluster.kubeconfig, cluster.context)) as api:
        yield api


@pytest.fixture
def ready(api: KubeApi, namespace: str) -> Iterator[Callable[..., Deployment]]:
    """Installs what a source describes and waits for its pods."""
    opened = []

    def install(source: Source, **settings: Any) -> Deployment:
        wanted = Settings(**{"replicas": 2, **settings})
        backends = source.backends(api, wanted, namespace=namespace)
        api.apply(backends.manifests, namespace=namespace)
        deployment = Deployment(
            api,
            backends.service,
            ready_timeout_s=wanted.ready_timeout_s,
            crashes_allowed=backends.crashes_allowed,
        )
        opened.append(deployment)
        deployment.wait_ready(backends.replicas)
        return deployment

    yield install
    for each in opened:
        each.close()
