"""Starts the runs of one test on its driver, and makes traffic of what they have sent."""

from __future__ import annotations

import logging
import math
import time
from itertools import chain
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pytest_grpclb.errors import DriverError
from pytest_grpclb.model import CallKind, CallTemplate, Mechanism
from pytest_grpclb.running import SkewWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb.calls import Resolver
    from pytest_grpclb.deployment import Deployment
    from pytest_grpclb.driver import DriverClient, DriverRun
    from pytest_grpclb.driver.plan import Plan
    from pytest_grpclb.freezing import Freezer
    from pytest_grpclb.model import Backend, NamedCall, Traffic
    from pytest_grpclb.pickers import Presence

__all__ = ["Launcher", "given"]

_LOG = logging.getLogger(__name__)
_NOT_FOUND = "Domain name not found"

__tracebackhide__ = True  # what an error says is for people; these frames are not

_OTHER_NAME = (
    "the servers' certificates have not the name that is asked for: give one that they have by "
    "--grpclb-tls-name"
)
_TLS_ADVICE = {
    "Hostname Verification Check failed": _OTHER_NAME,
    "is not in peer certificate": _OTHER_NAME,  # so said by gRPC 1.49
    "CERTIFICATE_VERIFY_FAILED": "the servers' certificates are not vouched for by those of "
    "--grpclb-tls-ca, or have not the name of --grpclb-tls-name: correct these",
}
"""What to do where TLS fails, by words of gRPC's and BoringSSL's errors."""
_NOT_REACHED = frozenset({"DEADLINE_EXCEEDED", "UNAVAILABLE"})
"""Status codes that gRPC itself gives to calls which no server answers."""


class Launcher:
    """All that the runs of one test have in common, down to the error rate that they share."""

    def __init__(
        self,
        *,
        freezer: Freezer,
        deployment: Deployment,
        driver: DriverClient,
        resolver: Resolver,
    ) -> None:
        self.freezer, self.resolver = freezer, resolver
        self._deployment, self._driver = deployment, driver
        self._runs = 0
        self._asked = False
        self._presences: WeakKeyDictionary[DriverRun, Presence] = WeakKeyDictionary()

    def next_alpha(self) -> float:
        """Return the next run's share of the test's alpha: 1/2, 1/6, 1/12 and so on, 1 in all."""
        self._runs += 1
        return self.freezer.settings.alpha / (self._runs * (self._runs + 1))

    def start(
        self,
        call: CallTemplate | NamedCall,
        *,
        backends: int,
        channels: int | None,
        calls: int = 0,
        concurrency: int | None = None,
        rate_per_s: float | None = None,
        report_interval_s: float = 0.0,
    ) -> DriverRun:
        """Start a run, and return when its counting has begun.

        :param backends: how many are ready
        :param channels: None: as many as the test's settings say; so ``concurrency``
        :param calls: counted calls; 0: until stopped
        :param rate_per_s: calls per second; None: as many as ``concurrency`` at a time
        :raises ValueError: if a number is below 1
        :raises CallError: if there is no such method, or the request does not fit it
        :raises DriverError: if it does not start, or no call is answered
        """
        freezer, settings = self.freezer, self.freezer.settings
        template = self.resolver.template(call, calls=calls)
        from pytest_grpclb.driver.plan import Plan

        presence = freezer.company.enter()
        try:
            freezer.picker.settle(self._deployment.backends)
            self._wait_told()
            plan = Plan(
                target=freezer.target,
                call=template,
                pods=tuple(
                    chain.from_iterable(each.addresses for each in self._deployment.backends())
                ),
                channels=given("channels", channels, settings.channels),
                concurrency=given("concurrency", concurrency, settings.concurrency),
                rate_per_s=rate_per_s,
                calls=calls,
                warm_up_backends=freezer.strategy.warm_up_backends(backends),
                report_interval_s=report_interval_s,
            )
            run = self._begin(plan)
        except BaseException:
            presence.leave()
            raise
        presence.is_over = lambda: run.finished
        self._presences[run] = presence
        return run

    def _wait_told(self) -> None:
        """Wait until DNS tells a new client of the pods that are there now.

        It answers out of its cache where somebody has asked before the last change, and whoever has
        such an answer does not ask again before a connection of his ends.
        """
        changes = [
            moment_s
            for each in self.freezer.watch.backends()
            for moment_s in (each.ready_at_s, each.removed_at_s)
            if moment_s is not None
        ]
        told_at_s = max(changes, default=-math.inf) + self.freezer.timers.dns_ttl_s
        if self._asked and (left_s := told_at_s - time.monotonic()) > 0.0:
            _LOG.info("waiting %.1f s until DNS has forgotten the pods of before", left_s)
            time.sleep(left_s)
        self._asked = True

    def _begin(self, plan: Plan) -> DriverRun:
        """Return a run that has begun to count.

        :raises DriverError: if it does not start, or no call is answered
        """
        run = self._driver.start(plan)
        if run.warm_up_error and not any(run.warm_up_seen):
            run.cancel()
            raise DriverError(
                f"no call to {plan.target.address} was answered during warm-up; the last one "
                f"failed with {run.warm_up_error}; {_next_step(run.warm_up_error, plan.call)}\n"
                f"{self._deployment.describe()}"
            )
        return run

    def freeze(
        self, run: DriverRun, ended_at_s: float | None, *, alpha: float, channels: int | None
    ) -> Traffic:
        """Return the traffic of a run so far.

        :param ended_at_s: None: it goes on
        """
        attribution, tried = run.attributed
        return self.freezer.traffic(
            run.calls(),
            run.client_view(),
            started_at_s=run.started_at_s,
            ended_at_s=ended_at_s,
            alpha=alpha,
            channels=self.freezer.settings.channels if channels is None else channels,
            alone=self._presences[run].alone,
            failures=run.failures(),
            attribution=attribution,
            attribution_tried=tried,
            warm_up_seen=run.warm_up_seen,
        )

    def skew_watch(
        self, ready: Sequence[Backend], *, channels: int | None, alpha: float
    ) -> SkewWatch | None:
        """Return a watch over a run; None: it could not say anything early."""
        mechanism = self.freezer.strategy.mechanism
        pickers = given("channels", channels, self.freezer.settings.channels)
        # Connections are judged by how many each pod was given, unless some pod can have none.
        by_connections = mechanism is Mechanism.CONNECTION and pickers >= len(ready)
        if len(ready) < 2 or by_connections:
            return None
        return SkewWatch(
            [backend.uid for backend in ready],
            mechanism=mechanism,
            channels=max(pickers, self.freezer.picker.pickers() or 1),
            alpha=alpha,
        )

    def picks_as_before(self, run: DriverRun) -> bool:
        """Return whether nothing is known by which a picker of *run* goes another round."""
        freezer = self.freezer
        if freezer.strategy.mechanism is not Mechanism.ROUND_ROBIN:
            return True
        return freezer.picker.proxied or not run.client_view().picker_rebuilds


def _next_step(error: str, call: CallTemplate) -> str:
    """Return what to set where all calls end as the last one of a warm-up did.

    :source: c-ares, ``ares_strerror``, ARES_ENOTFOUND; Kubernetes documentation, "Customizing DNS
        Service"
    """
    if _NOT_FOUND in error:
        return (
            "the cluster's DNS does not know that name: its Service has no ready pods, or the "
            "cluster's domain, below which names are dialled, is not what --grpclb-cluster-domain "
            "says"
        )
    for words, advice in _TLS_ADVICE.items():
        if words in error:
            return advice
    status = error.partition(":")[0]
    if status not in _NOT_REACHED and call.kind is not CallKind.UNARY:
        return (
            f"{call.method} was opened, and its service refuses that: say what to open by the "
            "fixture grpclb_stream, as CallTemplate(method=..., request=..., kind=...)"
        )
    if status not in _NOT_REACHED:
        return (
            "correct --grpclb-method, --grpclb-request or --grpclb-metadata, or, if it is an "
            f"answer as it should be, set --grpclb-allowed-status={status}"
        )
    return (
        "nothing of the service's answered: say where its pods listen with --grpclb-service-port, "
        "what they speak TLS with by --grpclb-tls-ca and --grpclb-tls-name (and --grpclb-tls-cert "
        "where it is mutual), or raise --grpclb-timeout if it answers slowly"
    )


def given(name: str, value: int | None, default: int) -> int:
    """Return *value*, or *default* where it is None.

    :raises ValueError: if it is below 1
    """
    if value is None:
        return default
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
    return value
