"""The value of the ``grpclb`` fixture: one service behind one strategy, ready for traffic."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_grpclb.client_events import with_pods
from pytest_grpclb.clusters.artifacts import artifacts_folder
from pytest_grpclb.clusters.readiness import with_gate
from pytest_grpclb.deployment import Deployment, components_of, images_of, service_of
from pytest_grpclb.errors import ChartError, DriverError
from pytest_grpclb.model import (
    Alarm,
    Backend,
    CallTemplate,
    Manifest,
    Mechanism,
    Service,
    Target,
    Timers,
    Traffic,
    Verdict,
)
from pytest_grpclb.running import RunningTraffic, SkewWatch, end_when_skewed
from pytest_grpclb.statistics import calls_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.kube import KubeApi
    from pytest_grpclb.driver import ClientView, DriverClient, DriverRun
    from pytest_grpclb.entrance import Entrance
    from pytest_grpclb.ingress import Ingress
    from pytest_grpclb.outside import OutsideDriver
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.sidecar import Sidecar
    from pytest_grpclb.strategies import Strategy

__all__ = ["Grpclb", "install"]

_RELEASE = "grpclb"
"""Helm release name of the strategy chart; each test has a namespace of its own."""
_WATCHED_REPORT_S = 0.005
"""A run that may end early is told of this often: some twenty calls decide, at a few thousand a
second."""
_SIDECAR_S = 5.0
"""As long as a channel's warm-up may take: by then a sidecar knows every pod."""
_FOLLOWING_S = 5.0
"""An ingress follows its endpoints within a second; what takes longer the run itself will show."""
_DRIVER = "driver"
"""The component that every strategy's chart has."""


class Grpclb:
    """One service behind one load-balancing strategy: send calls, change pods, see who answers."""

    def __init__(
        self,
        *,
        strategy: Strategy,
        settings: Settings,
        deployment: Deployment,
        driver: DriverClient,
        call: CallTemplate,
        target: Target,
        timers: Timers,
        components: Mapping[str, Deployment],
        client: Deployment | None = None,
        entrance: Entrance | None = None,
        sidecar: Sidecar | None = None,
        observer: Callable[[Verdict], None] | None = None,
    ) -> None:
        self.strategy, self.settings, self.target, self.call = strategy, settings, target, call
        self._deployment, self._driver, self._observer = deployment, driver, observer
        self._timers, self._components, self._client = timers, components, client
        self._entrance, self._sidecar = entrance, sidecar
        self._drives = 0
        self._reloads = 0
        self._shifts: int | None = None
        self._workers: int | None = None

    # --- what runs

    @property
    def service(self) -> Service:
        """The backends under test."""
        return self._deployment.service

    def backends(self) -> tuple[Backend, ...]:
        """Return the pods that are ready now, in order of readiness."""
        return self._deployment.backends()

    def scale(self, replicas: int) -> None:
        """Set the number of backends and wait until that many are ready.

        :raises ValueError: if *replicas* is negative
        :raises NotReadyError: if they are not ready within ``--grpclb-ready-timeout``
        """
        self._deployment.scale(replicas)

    def kill(self, pod: str | None = None) -> Backend:
        """Kill one pod without grace and wait until its replacement is ready.

        :param pod: its name; the one ready for longest if not given
        :return: the pod that was killed
        :raises ValueError: if no ready pod has that name
        :raises NotReadyError: if no replacement is ready within ``--grpclb-ready-timeout``
        """
        return self._deployment.kill(pod)

    def make_unready(self, pod: str | None = None) -> Backend:
        """Make one pod unready, though it goes on serving who still calls it, and wait for that.

        It stays so until `make_ready`; `scale`, `kill` and `restart` do not wait for it. The test
        needs the marker ``grpclb(readiness_gate=True)``.

        :param pod: its name; the one ready for longest if not given
        :return: the pod
        :raises ValueError: if no ready pod has that name, or the pods have no readiness gate
        :raises NotReadyError: if it stays ready for ``--grpclb-ready-timeout``
        """
        return self._deployment.make_unready(pod)

    def unready(self) -> tuple[str, ...]:
        """Return the names of the pods that were made unready."""
        return tuple(self._deployment.unready())

    def make_ready(self, pod: str) -> None:
        """Let a pod be ready again that was made unready, and wait until it is.

        :param pod: its name
        :raises ValueError: if no pod of that name was made unready
        :raises NotReadyError: if it stays unready for ``--grpclb-ready-timeout``
        """
        self._deployment.make_ready(pod)

    def restart(self, *, until_ended: bool = False) -> None:
        """Replace every backend by a rolling update and wait for it.

        :param until_ended: wait also until the old pods have ended, so that traffic in the
            background is there when they shut down
        :raises NotReadyError: if it does not end within ``--grpclb-ready-timeout``
        """
        self._deployment.restart(until_ended=until_ended)

    @property
    def ingress(self) -> Ingress:
        """Where calls come in from outside.

        :raises ValueError: if the strategy has none
        """
        if self._entrance is None:
            raise ValueError(
                f"{self.strategy.name} has no ingress; mark the test "
                '@pytest.mark.grpclb_only("ingress-nginx")'
            )
        return self._entrance.ingress

    def component(self, name: str) -> Deployment:
        """Return a Deployment of the strategy itself, such as its balancers.

        :param name: its label ``app.kubernetes.io/component``
        :raises ValueError: if the strategy has none of that name
        """
        try:
            return self._components[name]
        except KeyError:
            known = ", ".join(sorted(self._components)) or "none"
            raise ValueError(
                f"{self.strategy.name} has no component {name!r}; its components: {known}"
            ) from None

    def logs(self, pod: str, *, lines: int = 50) -> str:
        """Return the last *lines* that a pod has written.

        :raises ApiError: if there is no such pod
        """
        return self._deployment.logs(pod, lines=lines)

    def save_artifacts(self, directory: Path, test: str, report: str) -> Path:
        """Write what explains a failed test below *directory*; return the folder made for it.

        :param test: the test's node id, which names the folder
        :param report: what pytest shows of the failure
        """
        folder = artifacts_folder(directory, test)
        (folder / "failure.txt").write_text(report)
        deployments = [self._deployment, *self._components.values()]
        deployments += [] if self._client is None else [self._client]
        (folder / "pods.txt").write_text("\n".join(each.describe() for each in deployments))
        for deployment in deployments:
            deployment.save_logs(folder)
        if self._entrance is not None:
            (folder / "ingress.txt").write_text(self.ingress.describe())
            for name, text in self.ingress.cluster.ingress_files().items():
                (folder / name).write_text(text)
        if self._sidecar is not None:
            for name, text in self._sidecar.files().items():
                (folder / name).write_text(text)
        return folder

    # --- traffic

    def drive(
        self,
        calls: int | None = None,
        *,
        channels: int | None = None,
        concurrency: int | None = None,
    ) -> Traffic:
        """Send *calls* calls as fast as they are answered and return them.

        :param calls: exactly so many; by default as many as the error rates of a verdict on the
            backends that are ready now ask for, and fewer if a skew is certain before
        :param channels: how many channels of the client share them
        :param concurrency: how many calls are in flight
        :raises ValueError: if a number is below 1
        :raises DriverError: if the run ends early
        """
        alpha = self._next_alpha()
        ready = self.backends()
        watch: SkewWatch | None = None
        if calls is None:
            alpha /= 2.0  # the other half is for the looks on the way
            calls = calls_needed(
                max(2, len(ready)), alpha=alpha, power=self.settings.power, skew=self.settings.skew
            )
            watch = self._skew_watch(ready, calls=calls, channels=channels, alpha=alpha)
        run = self._start(
            calls=_given("calls", calls, 1),
            channels=channels,
            concurrency=concurrency,
            rate_per_s=None,
            backends=len(ready),
            report_interval_s=_WATCHED_REPORT_S if watch else 0.0,
        )
        alarm: Alarm | None = None
        try:
            if watch is None:
                run.wait_finished()
            else:
                uids = {backend.uid for backend in ready}
                alarm = end_when_skewed(
                    run, watch, unchanged=lambda: {each.uid for each in self.backends()} == uids
                )
        except BaseException:
            run.cancel()
            raise
        traffic = self._freeze(run, time.monotonic(), alpha=alpha, channels=channels)
        return replace(traffic, alarm=alarm)

    def _skew_watch(
        self, ready: Sequence[Backend], *, calls: int, channels: int | None, alpha: float
    ) -> SkewWatch | None:
        mechanism = self.strategy.mechanism
        pickers = _given("channels", channels, self.settings.channels)
        # Enough connections are judged by how many each pod was given, not by their calls.
        by_connections = mechanism is Mechanism.CONNECTION and pickers >= calls
        if len(ready) < 2 or by_connections:
            return None
        return SkewWatch(
            [backend.uid for backend in ready],
            mechanism=mechanism,
            channels=max(pickers, self._pickers() or 1),
            alpha=alpha,
        )

    @contextmanager
    def traffic(
        self, *, rate: float = 200.0, channels: int | None = None
    ) -> Iterator[RunningTraffic]:
        """Send *rate* calls a second in the background, for as long as the block runs.

        :param rate: calls per second, whether or not earlier ones were answered
        :param channels: how many channels of the client share them
        :raises ValueError: if a number is not above 0
        :raises DriverError: if the run ends early
        """
        if not rate > 0:
            raise ValueError(f"rate must be above 0 calls per second, got {rate!r}")
        alpha = self._next_alpha()
        run = self._start(
            calls=0,
            channels=channels,
            concurrency=None,
            rate_per_s=rate,
            backends=len(self.backends()),
        )

        def freeze(run: DriverRun, ended_at_s: float | None) -> Traffic:
            return self._freeze(run, ended_at_s, alpha=alpha, channels=channels)

        running = RunningTraffic(run, freeze)
        try:
            yield running
        except BaseException:
            run.cancel()
            raise
        running.stop()

    def _start(
        self,
        *,
        calls: int,
        channels: int | None,
        concurrency: int | None,
        rate_per_s: float | None,
        backends: int,
        report_interval_s: float = 0.0,
    ) -> DriverRun:
        settings = self.settings
        if self._entrance is not None:
            self.ingress.check()
            self.ingress.wait_following(
                lambda: frozenset(backend.uid for backend in self.backends()), _FOLLOWING_S
            )
            self._reloads = self.ingress.reloads()
        if self._sidecar is not None:
            port = self.service.port
            self._sidecar.wait_hosts(
                {f"{each.address}:{port}" for each in self.backends()}, _SIDECAR_S
            )
            self._shifts = self._sidecar.shifts()
        from pytest_grpclb.driver import Plan

        plan = Plan(
            target=self.target,
            call=self.call,
            channels=_given("channels", channels, settings.channels),
            concurrency=_given("concurrency", concurrency, settings.concurrency),
            rate_per_s=rate_per_s,
            calls=calls,
            warm_up_backends=self.strategy.warm_up_backends(backends),
            report_interval_s=report_interval_s,
        )
        run = self._driver.start(plan)
        if run.warm_up_error and not any(run.warm_up_seen):
            run.cancel()
            raise DriverError(
                f"no call to {self.target.address} was answered during warm-up; the last one "
                f"failed with {run.warm_up_error}\n{self._deployment.describe()}"
            )
        return run

    def _freeze(
        self, run: DriverRun, ended_at_s: float | None, *, alpha: float, channels: int | None
    ) -> Traffic:
        view = run.client_view()
        started_at_s = run.started_at_s
        watch = self._deployment.watch
        return Traffic(
            strategy=self.strategy.name,
            mechanism=self.strategy.mechanism,
            calls=run.calls(),
            # A pod that had gone before counting began is none of this traffic's business.
            backends=tuple(
                backend
                for backend in watch.backends()
                if backend.removed_at_s is None or backend.removed_at_s >= started_at_s
            ),
            started_at_s=started_at_s,
            ended_at_s=ended_at_s,
            channels=self.settings.channels if channels is None else channels,
            picker_rebuilds=self._picker_rebuilds(view, ended_at_s),
            pickers=self._pickers(),
            connections=view.connections,
            resolved=tuple(dict.fromkeys(each.address for each in view.connections)),
            failures=run.failures(),
            events=tuple(
                sorted(
                    (
                        *(event for event in watch.events() if event.at_s >= started_at_s),
                        *with_pods(view.events, watch.backends()),
                    ),
                    key=lambda event: event.at_s,
                )
            ),
            timers=self._timers,
            settings=self._settings_in_force(),
            warm_up_seen=run.warm_up_seen,
            alpha=alpha,
            power=self.settings.power,
            skew=self.settings.skew,
            observer=self._observer,
        )

    def _pickers(self) -> int | None:
        if self._sidecar is not None and self._workers is None:
            self._workers = self._sidecar.workers()  # asked once: they are what it started with
        if self._sidecar is not None:
            return self._workers
        return self.ingress.cluster.ingress_workers if self._entrance else None

    def _picker_rebuilds(self, view: ClientView, ended_at_s: float | None) -> int | None:
        if self._sidecar is not None:
            now = self._sidecar.shifts() if ended_at_s is not None else None
            return None if now is None or self._shifts is None else now - self._shifts
        if self._entrance is None:
            return view.picker_rebuilds
        if ended_at_s is None or self.ingress.cluster.ingress_workers is None:
            return None
        return self.ingress.reloads() - self._reloads

    def _settings_in_force(self) -> Mapping[str, str]:
        age_s = self.settings.max_connection_age_s
        told = {
            "target": self.target.address,
            "service config": self.target.service_config or "(none: pick_first)",
            "max connection age": "none" if age_s is None else f"{age_s:g} s",
        }
        told |= {name: str(value) for name, value in self.target.arguments}
        return told

    def _next_alpha(self) -> float:
        """Return this run's share of the test's alpha: 1/2, 1/6, 1/12 and so on, 1 in all."""
        self._drives += 1
        return self.settings.alpha / (self._drives * (self._drives + 1))


def install(
    stack: ExitStack,
    *,
    cluster: Cluster,
    api: KubeApi,
    strategy: Strategy,
    settings: Settings,
    manifests: Sequence[Manifest],
    namespace: str,
    call: CallTemplate,
    outside: OutsideDriver,
    run: str,
    observer: Callable[[Verdict], None] | None = None,
) -> Grpclb:
    """Put backends, strategy and driver into *namespace* and wait until all of them are ready.

    :param stack: takes what must be closed afterwards; objects in the namespace go with it
    :param manifests: the backends: one Deployment and what it needs
    :param outside: sends the calls where they come from outside the cluster
    :param run: label of all that the run makes
    :raises ClusterUnavailableError: if the cluster lacks what the strategy needs
    :raises ChartError: if the manifests hold no Deployment, or the strategy's chart does not render
    :raises ApiError: if the cluster refuses an object
    :raises NotReadyError: if the pods do not get ready in time
    """
    from pytest_grpclb.chart import charts_directory, render

    service = service_of(manifests, namespace=namespace, chart="the service under test")
    if settings.readiness_gate:
        manifests = with_gate(manifests)
    chart = strategy.chart or charts_directory() / "strategy"
    repository, _, tag = cluster.programs_image.rpartition(":")
    values = strategy.values(service, settings) | {
        "driver": {"image": {"repository": repository, "tag": tag}}
    }
    rendered = render(chart, values=values, release=_RELEASE, namespace=namespace)
    for image in images_of(rendered):
        cluster.check_image(image)
    target = strategy.target(service, settings, release=_RELEASE)
    secrets = None
    if target.through_ingress:
        from pytest_grpclb.entrance import make_secrets

        cluster.ingress_address(https=True)  # before anything is made, if it cannot be had
        outside.start()
        secrets = make_secrets(stack, api=api, settings=settings.ingress, service=service, run=run)
    # Where DNS caches, an Envoy that asks for pods too early is told for half a minute that there
    # are none: the driver comes when they are there.
    later = [each for each in rendered if cluster.dns_cache_s and _is_driver(each)]
    first = [each for each in rendered if each not in later]
    api.apply([*manifests, *first], namespace=namespace)
    # The import of gRPC takes as long as the first pods do to start.
    from pytest_grpclb.driver import DriverClient
    from pytest_grpclb.sidecar import open_sidecar

    def watched(service: Service, *, gated: bool = False) -> Deployment:
        deployment = Deployment(api, service, ready_timeout_s=settings.ready_timeout_s, gated=gated)
        stack.callback(deployment.close)
        return deployment

    components = components_of(rendered, namespace=namespace)
    found = components.pop(_DRIVER, None)
    if found is None and secrets is None:
        raise ChartError(chart.name, message="it has no Deployment of the component 'driver'")
    client = None if found is None else watched(found.service)
    deployment = watched(service, gated=settings.readiness_gate)
    others = {name: watched(each.service) for name, each in components.items()}
    # The backends first: without them a sidecar has no hosts, and is not ready either.
    deployment.wait_ready(settings.replicas)
    api.apply(later, namespace=namespace)
    if client is not None:
        client.wait_ready(1)
    for name, each in components.items():
        others[name].wait_ready(each.replicas)
    entrance = sidecar = None
    if client is not None:
        [pod] = client.serving()
        address = stack.enter_context(
            cluster.reach(namespace, pod.name, pod.address, client.service.port)
        )
        sidecar = open_sidecar(stack, cluster, rendered, namespace=namespace, pod=pod)
    if secrets is not None:
        from pytest_grpclb.entrance import open_entrance

        entrance = open_entrance(
            cluster=cluster,
            api=api,
            settings=settings,
            secrets=secrets,
            rendered=rendered,
            namespace=namespace,
            target=target,
            call=call,
            outside=outside,
        )
        target, address = entrance.target, entrance.driver_address
    driver = DriverClient(address, identify=deployment.watch.uid_of)
    stack.callback(driver.close)
    return Grpclb(
        strategy=strategy,
        settings=settings,
        deployment=deployment,
        driver=driver,
        call=call,
        target=target,
        timers=strategy.timers(settings, dns_ttl_s=cluster.dns_cache_s),
        components=others,
        client=client,
        entrance=entrance,
        sidecar=sidecar,
        observer=observer,
    )


def _is_driver(manifest: Manifest) -> bool:
    component = manifest["metadata"].get("labels", {}).get("app.kubernetes.io/component")
    return bool(manifest["kind"] == "Deployment" and component == _DRIVER)


def _given(name: str, value: int | None, default: int) -> int:
    if value is None:
        return default
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
    return value
