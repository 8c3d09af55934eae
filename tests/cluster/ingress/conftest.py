"""The greeter behind an Ingress of the embedded cluster, called from outside."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.installation import install
from pytest_grpclb.outside import OutsideDriver
from pytest_grpclb.samples import SAMPLE_CALL, sample_source
from pytest_grpclb.settings import IngressSettings, Settings
from pytest_grpclb.strategies.ingress_nginx import IngressNginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
    from pytest_grpclb.handle import Grpclb


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideDriver]:
    driver = OutsideDriver(tmp_path_factory.mktemp("outside") / "driver.log")
    yield driver
    driver.close()


@pytest.fixture
def installed(
    embedded_cluster: EmbeddedCluster, api: KubeApi, namespace: str, outside: OutsideDriver
) -> Iterator[Callable[..., Grpclb]]:
    """Puts the greeter behind an Ingress; IngressSettings as keywords."""
    with ExitStack() as stack:

        def make(*, replicas: int = 2, **settings: Any) -> Grpclb:
            wanted = Settings(
                replicas=replicas,
                max_connection_age_s=None,
                ingress=IngressSettings(**settings),
            )
            source = sample_source(
                wanted, image=embedded_cluster.programs_image, through_ingress=True
            )
            # Pods need not outlive the test by 5 s, only the second in which nginx learns of it.
            source = replace(source, values={**source.values, "preStopSleepSeconds": 2})
            return install(
                stack,
                cluster=embedded_cluster,
                api=api,
                strategy=IngressNginx(),
                settings=wanted,
                backends=source.backends(api, wanted, namespace=namespace),
                namespace=namespace,
                call=SAMPLE_CALL,
                outside=outside,
                run="test",
            )

        yield make
