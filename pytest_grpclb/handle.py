"""The value of the ``grpclb`` fixture: one service behind one strategy, ready for traffic."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.deployment import Deployment, components_of, service_of
from pytest_grpclb.driver import DriverClient, DriverRun, Plan
from pytest_grpclb.errors import ChartError, DriverError
from pytest_grpclb.model import (
    Backend,
    CallTemplate,
    Manifest,
    Service,
    Settings,
    Target,
    Timers,
    Traffic,
    Verdict,
)
from pytest_grpclb.statistics import calls_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.kube import KubeApi
    from pytest_grpclb.strategies import Strategy

__all__ = ["Grpclb", "RunningTraffic", "install"]

_RELEASE = "grpclb"
"""Helm release name of the strategy chart; each test has a namespace of its own."""
_DRIVER = "driver"
"""The component that every strategy's chart has."""


class RunningTraffic:
    """Calls that are being sent in the background; gives the traffic so far at any moment."""

    def __init__(
        self, run: DriverRun, freeze: Callable[[DriverRun, float | None], Traffic]
    ) -> None:
        self._run, self._freeze = run, freeze
        self._ended_at_s: float | None = None

    def snapshot(self) -> Traffic:
        """Return the calls reported so far and all that happened meanwhile."""
        return self._freeze(self._run, self._ended_at_s)

    def wait(self, timeout_s: float) -> None:
        """Return when there is more to see, or *timeout_s* has passed."""
        self._run.wait_change(timeout_s)

    def now_s(self) -> float:
        """Return the moment, on the clock of the traffic."""
        return time.monotonic()

    def stop(self) -> Traffic:
        """Send no further call, wait for those in flight and return all of them; safe to repeat.

        :raises DriverError: if the run ended early or does not end
        """
        if self._ended_at_s is None:
            self._run.stop()
            self._ended_at_s = time.monotonic()
        return self.snapshot()


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
        observer: Callable[[Verdict], None] | None = None,
    ) -> None:
        self.strategy, self.settings, self.target, self.call = strategy, settings, target, call
        self._deployment, self._driver, self._observer = deployment, driver, observer
        self._timers, self._components = timers, components
        self._drives = 0

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

    def restart(self) -> None:
        """Replace every backend by a rolling update and wait for it.

        :raises NotReadyError: if it does not end within ``--grpclb-ready-timeout``
        """
        self._deployment.restart()

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
        folder = directory / "".join(char if char.isalnum() else "-" for char in test)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failure.txt").write_text(report)
        deployments = (self._deployment, *self._components.values())
        (folder / "pods.txt").write_text("\n".join(each.describe() for each in deployments))
        for deployment in deployments:
            for pod in deployment.watch.pods():
                log = deployment.logs(pod.name, lines=10_000)
                (folder / f"{pod.name}.log").write_text(log)
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

        :param calls: how many; by default as many as the error rates of a verdict on the backends
            that are ready now ask for
        :param channels: how many channels of the client share them
        :param concurrency: how many calls are in flight
        :raises ValueError: if a number is below 1
        :raises DriverError: if the run ends early
        """
        alpha = self._next_alpha()
        ready = self.backends()
        if calls is None:
            calls = calls_needed(
                max(2, len(ready)), alpha=alpha, power=self.settings.power, skew=self.settings.skew
            )
        run = self._start(
            calls=_given("calls", calls, 1),
            channels=channels,
            concurrency=concurrency,
            rate_per_s=None,
            backends=len(ready),
        )
        try:
            run.wait_finished()
        except BaseException:
            run.cancel()
            raise
        return self._freeze(run, time.monotonic(), alpha=alpha, channels=channels)

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
    ) -> DriverRun:
        settings = self.settings
        plan = Plan(
            target=self.target,
            call=self.call,
            channels=_given("channels", channels, settings.channels),
            concurrency=_given("concurrency", concurrency, settings.concurrency),
            rate_per_s=rate_per_s,
            calls=calls,
            warm_up_backends=self.strategy.warm_up_backends(backends),
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
            picker_rebuilds=view.picker_rebuilds,
            connections=view.connections,
            resolved=tuple(dict.fromkeys(each.address for each in view.connections)),
            failures=run.failures(),
            events=tuple(event for event in watch.events() if event.at_s >= started_at_s),
            timers=self._timers,
            settings=self._settings_in_force(),
            warm_up_seen=run.warm_up_seen,
            alpha=alpha,
            power=self.settings.power,
            skew=self.settings.skew,
            observer=self._observer,
        )

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
        """Return this run's share of the test's alpha: a half, a quarter and so on."""
        self._drives += 1
        return self.settings.alpha / 2.0**self._drives


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
    observer: Callable[[Verdict], None] | None = None,
) -> Grpclb:
    """Put backends, strategy and driver into *namespace* and wait until all of them are ready.

    :param stack: takes what must be closed afterwards; objects in the namespace go with it
    :param manifests: the backends: one Deployment and what it needs
    :raises ChartError: if the manifests hold no Deployment, or the strategy's chart does not render
    :raises ApiError: if the cluster refuses an object
    :raises NotReadyError: if the pods do not get ready in time
    """
    service = service_of(manifests, namespace=namespace, chart="the service under test")
    chart = strategy.chart or charts_directory() / "strategy"
    repository, _, tag = cluster.programs_image.rpartition(":")
    values = strategy.values(service, settings) | {
        "driver": {"image": {"repository": repository, "tag": tag}}
    }
    rendered = render(chart, values=values, release=_RELEASE, namespace=namespace)
    api.apply([*manifests, *rendered], namespace=namespace)

    def watched(service: Service) -> Deployment:
        deployment = Deployment(api, service, ready_timeout_s=settings.ready_timeout_s)
        stack.callback(deployment.close)
        return deployment

    components = components_of(rendered, namespace=namespace)
    found = components.pop(_DRIVER, None)
    if found is None:
        raise ChartError(chart.name, message="it has no Deployment of the component 'driver'")
    client, deployment = watched(found.service), watched(service)
    others = {name: watched(each.service) for name, each in components.items()}
    client.wait_ready(1)
    for name, each in components.items():
        others[name].wait_ready(each.replicas)
    deployment.wait_ready(settings.replicas)
    [pod] = client.serving()
    address = stack.enter_context(
        cluster.reach(namespace, pod.name, pod.address, client.service.port)
    )
    driver = DriverClient(address)
    stack.callback(driver.close)
    return Grpclb(
        strategy=strategy,
        settings=settings,
        deployment=deployment,
        driver=driver,
        call=call,
        target=strategy.target(service, settings, release=_RELEASE),
        timers=strategy.timers(settings, dns_ttl_s=cluster.dns_cache_s),
        components=others,
        observer=observer,
    )


def _given(name: str, value: int | None, default: int) -> int:
    if value is None:
        return default
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
    return value
