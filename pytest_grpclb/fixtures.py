"""The ``grpclb_*`` fixtures; stages are imported when used, so that other runs pay nothing."""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_grpclb.options import Options, apply_marker
from pytest_grpclb.settings import Keep
from pytest_grpclb.sources.choice import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pytest_grpclb.clusters import Cluster, ClusterRequest, Provider
    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.errors import ClusterUnavailableError
    from pytest_grpclb.handle import Grpclb
    from pytest_grpclb.model import CallTemplate, NamedCall
    from pytest_grpclb.outside import OutsideDriver
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.sources.protocol import Source
    from pytest_grpclb.sources.tls import Tls
    from pytest_grpclb.strategies import Strategy

__all__ = ["RunningCluster"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

OPTIONS = pytest.StashKey[Options]()
PROVIDER: pytest.StashKey[Provider] = pytest.StashKey()
STRATEGIES: pytest.StashKey[Mapping[str, Strategy]] = pytest.StashKey()

RUN = pytest.StashKey[str]()
"""Unique to this run, the same in all its xdist workers."""
NOTES = pytest.StashKey[list[str]]()
"""Lines for the end of the run: what was kept, and how to delete it."""
FAILED = pytest.StashKey[bool]()
"""Of a test: whether its set-up or call has failed."""

PLACE = pytest.StashKey[tuple["RunningCluster", str, str]]()
"""Of a test: its cluster and namespace, as soon as set-up has come so far; and where that is
somebody else's, the Service in it that is tested."""

VERDICT_PROPERTY = "grpclb_verdict"
"""Name of the user property by which a test's verdicts reach reports, also from xdist workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCluster:
    """A cluster that answers, and the connection to its API."""

    cluster: Cluster
    api: KubeApi
    run: str
    """Unique to this run and worker; namespaces carry it in their name and label."""


_namespaces = itertools.count(1)


def _cluster_request(session: pytest.Session, directory: Path) -> ClusterRequest:
    from pytest_grpclb.clusters import ClusterRequest

    config = session.config
    options = config.stash[OPTIONS]
    return ClusterRequest(
        directory=directory,
        embedded_images=options.embedded_images,
        commands_directory=config.rootpath,
        run=config.stash[RUN],
        worker=os.environ.get("PYTEST_XDIST_WORKER", "main"),
        image=options.image,
        base_image=options.base_image,
        load_images=options.load_images,
        kubeconfig=options.kubeconfig,
        context=options.context,
        kind_program=config.getoption("kind_bin", None) or "",  # pytest-kind's own option
        kind_image=options.kind_image,
        kind_config=options.kind_config,
        kind_name=options.kind_name,
        keep=lambda: _keeps(config, failed=session.testsfailed > 0),
        failed=lambda: session.testsfailed > 0,
        tell=config.stash[NOTES].append,
        ingress=options.ingress,
        ingress_class=options.settings.ingress.class_name,
        artifacts=options.artifacts,
    )


def _keeps(config: pytest.Config, *, failed: bool) -> bool:
    keep = config.stash[OPTIONS].keep
    return keep is Keep.ALWAYS or (keep is Keep.ON_FAILURE and failed)


@pytest.fixture(scope="session")
def grpclb_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningCluster]:
    """A Kubernetes cluster for the whole run (of this xdist worker)."""
    from pytest_grpclb.errors import ClusterUnavailableError

    config = request.config
    options = config.stash[OPTIONS]
    directory = tmp_path_factory.mktemp("grpclb")
    asked = _cluster_request(request.session, directory)
    cluster = config.stash[PROVIDER](asked)
    # Ctrl-C during a test skips what follows the yield, but not the configuration's cleanup.
    config.add_cleanup(cluster.close)
    try:
        try:
            cluster.start()
        except ClusterUnavailableError as error:
            if options.require:
                raise
            _skip(config, error)
        # The slow imports of this process, while the cluster starts in another.
        import kubernetes  # noqa: F401

        from pytest_grpclb.clusters.api.kube import KubeApi

        cluster.wait()
        api = KubeApi(cluster.kubeconfig, cluster.context, scratch=directory)
        yield RunningCluster(cluster=cluster, api=api, run=asked.label)
        api.close()
    finally:
        cluster.close()


@pytest.fixture
def grpclb_strategy(request: pytest.FixtureRequest) -> Strategy:
    """The load-balancing strategy under test; parametrized by ``--grpclb-strategy``."""
    strategies = request.config.stash[STRATEGIES]
    return strategies[request.param]


@pytest.fixture
def grpclb_settings(request: pytest.FixtureRequest, grpclb_strategy: Strategy) -> Settings:
    """What this test asks for: options, then its ``grpclb`` markers, the closest last."""
    settings = request.config.stash[OPTIONS].settings
    service = request.config.stash[OPTIONS].service
    tells_no_age = service.origin is not Origin.SAMPLE and service.connection_age is None
    if tells_no_age or not grpclb_strategy.needs_connection_age:
        settings = replace(settings, max_connection_age_s=None)
    for marker in reversed(list(request.node.iter_markers("grpclb"))):
        settings = apply_marker(settings, marker.args, marker.kwargs)
    return settings


@pytest.fixture
def grpclb_namespace(
    request: pytest.FixtureRequest, grpclb_cluster: RunningCluster
) -> Iterator[str]:
    """A namespace of the test's own, deleted after it unless ``--grpclb-keep`` says otherwise."""
    from pytest_grpclb.clusters.namespaces import mark_kept
    from pytest_grpclb.deployment import temporary_namespace

    name = f"grpclb-{grpclb_cluster.run}-{next(_namespaces)}"
    config, node = request.config, request.node
    running = config.stash[OPTIONS].service.running
    if running is not None:
        node.stash[PLACE] = grpclb_cluster, running.namespace, running.name
        yield name  # none is made: all that the test needs goes beside the service
        return

    def keep() -> bool:
        command = grpclb_cluster.cluster.deletion_command(name)
        asked = _keeps(config, failed=node.stash.get(FAILED, False))
        kept = bool(command) and asked
        if asked and not command:
            options = config.stash[OPTIONS]
            config.stash[NOTES].append(
                f"--grpclb-keep={options.keep.value} keeps nothing: the cluster "
                f"{options.cluster!r} ends with the run; --grpclb-artifacts=DIR saves what tests "
                "that fail leave"
            )
        if kept:
            told = f"grpclb: kept namespace {name!r} of {node.nodeid}; delete it with: {command}"
            if not mark_kept(grpclb_cluster.api, name):
                told += " (a later run will, after six hours: this user may not label it as kept)"
            config.stash[NOTES].append(told)
        return kept

    with temporary_namespace(grpclb_cluster.api, name, run=grpclb_cluster.run, keep=keep):
        node.stash[PLACE] = grpclb_cluster, name, ""
        yield name


@pytest.fixture
def grpclb_service(
    request: pytest.FixtureRequest,
    grpclb_cluster: RunningCluster,
    grpclb_settings: Settings,
    grpclb_strategy: Strategy,
) -> Source:
    """The backends under test: what the options say, else the sample service."""
    from pytest_grpclb.samples import sample_source
    from pytest_grpclb.sources.choosing import source_of
    from pytest_grpclb.strategies.ingress_nginx import IngressNginx

    return source_of(request.config.stash[OPTIONS].service) or sample_source(
        grpclb_settings,
        image=grpclb_cluster.cluster.programs_image,
        through_ingress=grpclb_strategy.name == IngressNginx().name,
        dns_cache_s=grpclb_cluster.cluster.dns_cache_s,
        own_pods=request.config.stash[OPTIONS].own_pods,
    )


@pytest.fixture(scope="session")
def grpclb_outside_driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OutsideDriver]:
    """The driver for calls from outside the cluster; it is started when one is to be sent."""
    from pytest_grpclb.outside import OutsideDriver

    driver = OutsideDriver(tmp_path_factory.mktemp("grpclb-outside") / "driver.log")
    # Ctrl-C during a test skips what follows the yield, but not the configuration's cleanup.
    request.config.add_cleanup(driver.close)
    yield driver
    driver.close()


def _tls(config: pytest.Config) -> Tls | None:
    files = config.stash[OPTIONS].service.tls
    if files is None:
        return None
    from pytest_grpclb.sources.tls import read_tls

    return read_tls(files)


@pytest.fixture
def grpclb_stream() -> CallTemplate:
    """The call that `Grpclb.streams` opens: the sample's. Override it where you bring a service."""
    from pytest_grpclb.samples import SAMPLE_STREAM

    return SAMPLE_STREAM


@pytest.fixture
def grpclb_request_factory() -> Callable[[int], Any] | None:
    """What makes each call's own request of its sequence number: JSON, a message, or bytes.

    None: all send the same one. Override it where ``--grpclb-method`` names what is called. The
    first 1000 requests are made beforehand; later calls send them again, in turn.
    """
    return None


@pytest.fixture
def grpclb_call(
    grpclb_settings: Settings, grpclb_request_factory: Callable[[int], Any] | None
) -> CallTemplate | NamedCall:
    """The call that the driver sends: what the settings name, otherwise the sample's."""
    from pytest_grpclb.samples import call_of

    return call_of(grpclb_settings, factory=grpclb_request_factory)


@pytest.fixture
def grpclb(
    request: pytest.FixtureRequest,
    grpclb_cluster: RunningCluster,
    grpclb_strategy: Strategy,
    grpclb_settings: Settings,
    grpclb_namespace: str,
    grpclb_service: Source,
    grpclb_call: CallTemplate | NamedCall,
    grpclb_stream: CallTemplate,
    grpclb_outside_driver: OutsideDriver,
) -> Iterator[Grpclb]:
    """The service behind the strategy, its pods and the driver ready."""
    from pytest_grpclb.errors import ClusterUnavailableError
    from pytest_grpclb.installation import install

    def observe(verdict: Any) -> None:
        from pytest_grpclb.report import summary_row

        row = summary_row(grpclb_strategy.name, request.node.name, verdict)
        request.node.user_properties.append((VERDICT_PROPERTY, row))

    with ExitStack() as stack:
        try:
            installed = install(
                stack,
                cluster=grpclb_cluster.cluster,
                api=grpclb_cluster.api,
                strategy=grpclb_strategy,
                settings=grpclb_settings,
                backends=grpclb_service.backends(
                    grpclb_cluster.api, grpclb_settings, namespace=grpclb_namespace
                ),
                namespace=grpclb_namespace,
                call=grpclb_call,
                stream=grpclb_stream,
                types=request.config.stash[OPTIONS].types,
                outside=grpclb_outside_driver,
                run=grpclb_cluster.run,
                tls=_tls(request.config),
                own_pods=request.config.stash[OPTIONS].own_pods,
                observer=observe,
                tell=request.config.stash[NOTES].append,
            )
        except ClusterUnavailableError as error:
            if request.config.stash[OPTIONS].require:
                raise
            _skip(request.config, error)
        yield installed


def _skip(config: pytest.Config, error: ClusterUnavailableError) -> NoReturn:
    """Skip the test for what is not here, and say so in the summary, too."""
    __tracebackhide__ = True
    config.stash[NOTES].append(f"tests were skipped: {error}")
    pytest.skip(f"{error}; with --grpclb-require this is a failure")
