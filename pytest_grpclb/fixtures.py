"""The ``grpclb_*`` fixtures; stages are imported when used, so that other runs pay nothing."""

from __future__ import annotations

import itertools
import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.options import Options, apply_marker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_grpclb.clusters import Cluster, Provider
    from pytest_grpclb.clusters.kube import KubeApi
    from pytest_grpclb.handle import Grpclb
    from pytest_grpclb.model import CallTemplate, Manifest, Settings
    from pytest_grpclb.strategies import Strategy

__all__ = ["RunningCluster", "ServiceSource"]

OPTIONS = pytest.StashKey[Options]()
PROVIDER: pytest.StashKey[Provider] = pytest.StashKey()
STRATEGIES: pytest.StashKey[Mapping[str, Strategy]] = pytest.StashKey()

VERDICT_PROPERTY = "grpclb_verdict"
"""Name of the user property by which a test's verdicts reach reports, also from xdist workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCluster:
    """A cluster that answers, and the connection to its API."""

    cluster: Cluster
    api: KubeApi
    run: str
    """Unique to this run and worker; namespaces carry it in their name and label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSource:
    """Where the backends come from: a Helm chart with one Deployment."""

    chart: Path
    release: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def manifests(self, *, namespace: str) -> list[Manifest]:
        """Render the chart.

        :raises ChartError: if it does not render
        """
        from pytest_grpclb.chart import render

        return render(self.chart, values=self.values, release=self.release, namespace=namespace)


_namespaces = itertools.count(1)


@pytest.fixture(scope="session")
def grpclb_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningCluster]:
    """A Kubernetes cluster for the whole run (of this xdist worker)."""
    from pytest_grpclb.clusters import ClusterRequest

    config = request.config
    options = config.stash[OPTIONS]
    directory = tmp_path_factory.mktemp("grpclb")
    cluster = config.stash[PROVIDER](
        ClusterRequest(directory=directory, embedded_images=options.embedded_images)
    )
    # Ctrl-C during a test skips what follows the yield, but not the configuration's cleanup.
    config.add_cleanup(cluster.close)
    try:
        cluster.start()
        # The slow imports of this process, while the cluster starts in another.
        import kubernetes  # noqa: F401

        import pytest_grpclb.handle  # noqa: F401
        from pytest_grpclb.clusters.kube import KubeApi

        cluster.wait()
        api = KubeApi(cluster.kubeconfig, cluster.context, scratch=directory)
        run = f"{secrets.token_hex(3)}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
        yield RunningCluster(cluster=cluster, api=api, run=run)
        api.close()
    finally:
        cluster.close()


@pytest.fixture
def grpclb_strategy(request: pytest.FixtureRequest) -> Strategy:
    """The load-balancing strategy under test; parametrized by ``--grpclb-strategy``."""
    strategies = request.config.stash[STRATEGIES]
    return strategies[request.param]


@pytest.fixture
def grpclb_settings(request: pytest.FixtureRequest) -> Settings:
    """What this test asks for: options, then its ``grpclb`` markers, the closest last."""
    settings = request.config.stash[OPTIONS].settings
    for marker in reversed(list(request.node.iter_markers("grpclb"))):
        settings = apply_marker(settings, marker.args, marker.kwargs)
    return settings


@pytest.fixture
def grpclb_namespace(grpclb_cluster: RunningCluster) -> Iterator[str]:
    """A namespace of the test's own, deleted after it."""
    from pytest_grpclb.deployment import temporary_namespace

    name = f"grpclb-{grpclb_cluster.run}-{next(_namespaces)}"
    with temporary_namespace(grpclb_cluster.api, name, run=grpclb_cluster.run):
        yield name


@pytest.fixture
def grpclb_service(grpclb_cluster: RunningCluster, grpclb_settings: Settings) -> ServiceSource:
    """The backends under test: the sample greeter. Override it to test a service of your own."""
    from pytest_grpclb.chart import charts_directory
    from pytest_grpclb.samples import greeter_values

    return ServiceSource(
        chart=charts_directory() / "greeter",
        release="greeter",
        values=greeter_values(grpclb_settings, image=grpclb_cluster.cluster.programs_image),
    )


@pytest.fixture
def grpclb_call() -> CallTemplate:
    """The call that the driver sends: the greeter's. Override it together with `grpclb_service`."""
    from pytest_grpclb.samples import GREETER_CALL

    return GREETER_CALL


@pytest.fixture
def grpclb(
    request: pytest.FixtureRequest,
    grpclb_cluster: RunningCluster,
    grpclb_strategy: Strategy,
    grpclb_settings: Settings,
    grpclb_namespace: str,
    grpclb_service: ServiceSource,
    grpclb_call: CallTemplate,
) -> Iterator[Grpclb]:
    """The service behind the strategy, its pods and the driver ready."""
    from pytest_grpclb.handle import install

    def observe(verdict: Any) -> None:
        from pytest_grpclb.report import summary_row

        row = summary_row(grpclb_strategy.name, request.node.name, verdict)
        request.node.user_properties.append((VERDICT_PROPERTY, row))

    with ExitStack() as stack:
        yield install(
            stack,
            cluster=grpclb_cluster.cluster,
            api=grpclb_cluster.api,
            strategy=grpclb_strategy,
            settings=grpclb_settings,
            manifests=grpclb_service.manifests(namespace=grpclb_namespace),
            namespace=grpclb_namespace,
            call=grpclb_call,
            observer=observe,
        )
