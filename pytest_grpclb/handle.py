"""The value of the ``grpclb`` fixture: one service behind one strategy, ready for traffic."""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from pytest_grpclb.clusters.artifacts import artifacts_folder
from pytest_grpclb.launching import given
from pytest_grpclb.running import RunningTraffic, SkewWatch, end_when_skewed, stream_of
from pytest_grpclb.statistics import calls_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import grpc

    from pytest_grpclb.calls import CallChanges
    from pytest_grpclb.deployment import Deployment
    from pytest_grpclb.driver import DriverRun
    from pytest_grpclb.ingress import Ingress
    from pytest_grpclb.launching import Launcher
    from pytest_grpclb.model import (
        Alarm,
        Backend,
        CallTemplate,
        NamedCall,
        Service,
        Traffic,
    )
    from pytest_grpclb.recording import ChannelMaker

__all__ = ["Grpclb"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_WATCHED_REPORT_S = 0.005
"""A run that may end early is told of this often: some twenty calls decide, at a few thousand a
second."""

_OPENING_S = 2.0
"""By then streams are answered whose connections warm-up has made, or they wait in a queue."""


class Grpclb:
    """One service behind one load-balancing strategy: send calls, change pods, see who answers."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        deployment: Deployment,
        call: CallTemplate | NamedCall,
        stream: CallTemplate,
        components: Mapping[str, Deployment],
        open_channels: Callable[[], ChannelMaker],
        client: Deployment | None = None,
        ingress: Ingress | None = None,
    ) -> None:
        common = launcher.freezer
        self.strategy, self.settings, self.target = common.strategy, common.settings, common.target
        self.call = call
        """What is called unless a run is told otherwise."""
        self.stream = stream
        """What is opened unless `streams` is told otherwise."""
        self._launcher, self._picker, self._deployment = launcher, common.picker, deployment
        self._components, self._client, self._ingress = components, client, ingress
        self._channels = functools.cache(open_channels)

    def __repr__(self) -> str:
        """Say what it is in pytest's account of a failed test."""
        return f"<Grpclb: {self.service.deployment} behind {self.strategy.name}>"

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

    def kill(self, pod: str | Backend | None = None) -> Backend:
        """Kill one pod without grace and wait until its replacement is ready.

        :param pod: the pod, or its name; the one ready for longest if not given
        :return: the pod that was killed
        :raises ValueError: if no ready pod has that name
        :raises NotReadyError: if no replacement is ready within ``--grpclb-ready-timeout``
        """
        return self._deployment.kill(_name(pod))

    def make_unready(self, pod: str | Backend | None = None) -> Backend:
        """Make one pod unready, though it goes on serving who still calls it, and wait for that.

        It stays so until `make_ready`; `scale`, `kill` and `restart` do not wait for it. The test
        needs the marker ``grpclb(readiness_gate=True)``.

        :param pod: the pod, or its name; the one ready for longest if not given
        :return: the pod
        :raises ValueError: if no ready pod has that name, or the pods have no readiness gate
        :raises NotReadyError: if it stays ready for ``--grpclb-ready-timeout``
        """
        return self._deployment.make_unready(_name(pod))

    def unready(self) -> tuple[str, ...]:
        """Return the names of the pods that were made unready."""
        return tuple(self._deployment.unready())

    def make_ready(self, pod: str | Backend) -> None:
        """Let a pod be ready again that was made unready, and wait until it is.

        :param pod: the pod, or its name
        :raises ValueError: if no pod of that name was made unready
        :raises NotReadyError: if it stays unready for ``--grpclb-ready-timeout``
        """
        self._deployment.make_ready(_name(pod))

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
        if self._ingress is None:
            raise ValueError(
                f"{self.strategy.name} has no ingress; mark the test "
                '@pytest.mark.grpclb_only("ingress-nginx")'
            )
        self._launcher.freezer.company.disturb()  # who asks for it is about to call it
        return self._ingress

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

    def logs(self, pod: str | Backend, *, lines: int = 50) -> str:
        """Return the last *lines* that a pod has written.

        :raises ApiError: if there is no such pod
        """
        return self._deployment.logs(_name(pod), lines=lines)

    def save_artifacts(self, directory: Path, test: str, report: str) -> Path:
        """Write what explains a failed test below *directory*; return the folder made for it.

        :param test: the test's node id, which names the folder
        :param report: what pytest shows of the failure
        """
        folder = artifacts_folder(directory, test)
        (folder / "failure.txt").write_text(report)
        # First what a proxy says: it sees to it that its log is whole.
        for name, text in self._picker.files().items():
            (folder / name).write_text(text)
        deployments = [self._deployment, *self._components.values()]
        deployments += [] if self._client is None else [self._client]
        (folder / "pods.txt").write_text("\n".join(one.describe(each=True) for one in deployments))
        for deployment in deployments:
            deployment.save_logs(folder)
        return folder

    # --- traffic

    def drive(
        self,
        calls: int | None = None,
        *,
        channels: int | None = None,
        concurrency: int | None = None,
        **call: Unpack[CallChanges],
    ) -> Traffic:
        """Send *calls* calls as fast as they are answered and return them.

        :param calls: exactly so many; by default as many as the error rates of a verdict on the
            backends that are ready now ask for, and fewer if a skew is certain before
        :param channels: how many channels of the client share them
        :param concurrency: how many calls are in flight
        :param call: what to call in place of what the test does: ``method``, ``request`` and so on
        :raises ValueError: if a number is below 1
        :raises CallError: if there is no such method, or the request does not fit it
        :raises DriverError: if the run ends early
        """
        alpha = self._launcher.next_alpha()
        ready = self.backends()
        watch: SkewWatch | None = None
        if calls is None:
            alpha /= 2.0  # the other half is for the looks on the way
            calls = calls_needed(
                max(2, len(ready)), alpha=alpha, power=self.settings.power, skew=self.settings.skew
            )
            watch = self._launcher.skew_watch(ready, channels=channels, alpha=alpha)
        run = self._launcher.start(
            self._changed(call),
            calls=given("calls", calls, 1),
            channels=channels,
            concurrency=concurrency,
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
                    run,
                    watch,
                    unchanged=lambda: (
                        {each.uid for each in self.backends()} == uids
                        and self._launcher.picks_as_before(run)
                    ),
                )
        except BaseException:
            run.cancel()
            raise
        traffic = self._launcher.freeze(run, time.monotonic(), alpha=alpha, channels=channels)
        return replace(traffic, alarm=alarm)

    @contextmanager
    def traffic(
        self,
        *,
        rate: float = 200.0,
        channels: int | None = None,
        **call: Unpack[CallChanges],
    ) -> Iterator[RunningTraffic]:
        """Send *rate* calls a second in the background, for as long as the block runs.

        :param rate: calls per second, whether or not earlier ones were answered
        :param channels: how many channels of the client share them
        :param call: as `drive` has it
        :raises ValueError: if a number is not above 0
        :raises CallError: if there is no such method, or the request does not fit it
        :raises DriverError: if the run ends early
        """
        if not rate > 0:
            raise ValueError(f"rate must be above 0 calls per second, got {rate!r}")
        alpha = self._launcher.next_alpha()
        run = self._launcher.start(
            self._changed(call),
            channels=channels,
            rate_per_s=rate,
            backends=len(self.backends()),
        )

        def freeze(run: DriverRun, ended_at_s: float | None) -> Traffic:
            return self._launcher.freeze(run, ended_at_s, alpha=alpha, channels=channels)

        running = RunningTraffic(run, freeze)
        try:
            yield running
            running.stop()
        except BaseException:
            run.cancel()
            raise

    @contextmanager
    def streams(
        self,
        streams: int | None = None,
        *,
        call: CallTemplate | None = None,
        duration_s: float | None = None,
        messages: int | None = None,
        channels: int | None = None,
    ) -> Iterator[RunningTraffic]:
        """Keep streams open in the background, for as long as the block runs.

        The block begins when all of them were answered, or some have waited for long. A stream that
        ends is opened again: as a call of its own, which may go to another pod.

        :param streams: open at a time; by default as many as a verdict on their spread over the
            pods that are ready now asks for
        :param call: what to open; the fixture ``grpclb_stream`` if not given
        :param duration_s: end each so many seconds after its first answer
        :param messages: end each after so many messages
        :param channels: how many channels of the client share them
        :raises ValueError: if a number is not above 0, or the call is unary
        :raises DriverError: if the run ends early
        """
        opened = stream_of(call or self.stream, duration_s=duration_s, messages=messages)
        alpha = self._launcher.next_alpha()
        ready = len(self.backends())
        if streams is None:
            settings = self.settings
            streams = calls_needed(
                max(2, ready), alpha=alpha / 2.0, power=settings.power, skew=settings.skew
            )
        kept_open = given("streams", streams, 1)
        run = self._launcher.start(
            opened,
            channels=channels,
            concurrency=kept_open,
            backends=ready,
        )

        def freeze(run: DriverRun, ended_at_s: float | None) -> Traffic:
            traffic = self._launcher.freeze(run, ended_at_s, alpha=alpha, channels=channels)
            return replace(
                traffic,
                streams=run.streams(),
                streams_kept_open=kept_open,
                stream_duration_s=opened.duration_s,
                streams_until_s=running.stopping_at_s,
            )

        running = RunningTraffic(run, freeze)
        try:
            run.wait_streams(kept_open, _OPENING_S)
            yield running
            running.stop()
        except BaseException:
            run.cancel()
            raise

    def channel(self) -> grpc.Channel:
        """Return a channel for stubs of your own, configured as the strategy's clients are.

        Close it, or use it in a ``with`` statement. Its unary calls are recorded: see `recorded`.

        :raises ChannelError: if the test process cannot reach what they dial: on real clusters
            all but an ingress
        """
        return self._channels().channel(self._template(), alpha=self._launcher.next_alpha())

    def aio_channel(self) -> grpc.aio.Channel:
        """Return the same for asyncio stubs, to be made while the event loop runs."""
        return self._channels().aio_channel(self._template(), alpha=self._launcher.next_alpha())

    def recorded(self, channel: grpc.Channel | grpc.aio.Channel) -> Traffic:
        """Return the unary calls of such a channel that have ended, for the assertions.

        :raises ValueError: if this object did not make *channel*
        """
        return self._channels().recorded(channel)

    def _template(self) -> CallTemplate:
        return self._launcher.resolver.template(self.call, calls=1)

    def _changed(self, changes: CallChanges) -> CallTemplate | NamedCall:
        from pytest_grpclb.calls import changed

        return changed(self.call, changes)


def _name(pod: str | Backend | None) -> Any:
    return getattr(pod, "name", pod)
