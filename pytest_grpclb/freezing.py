"""Traffic as it is at a moment: the calls, and all else that a verdict on them takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_grpclb.client_events import with_pods
from pytest_grpclb.model import Traffic
from pytest_grpclb.pickers import Company

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_grpclb.clusters.pods.watch import PodWatch
    from pytest_grpclb.driver.told import ClientView
    from pytest_grpclb.model import Calls, Target, Timers, Verdict
    from pytest_grpclb.pickers import Picker
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.strategies import Strategy

__all__ = ["Freezer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezer:
    """What all traffic of one test has in common."""

    strategy: Strategy
    settings: Settings
    target: Target
    timers: Timers
    watch: PodWatch
    picker: Picker
    company: Company = field(default_factory=Company)
    observer: Callable[[Verdict], None] | None = None

    def traffic(
        self,
        calls: Calls,
        view: ClientView,
        *,
        started_at_s: float,
        ended_at_s: float | None,
        alpha: float,
        channels: int,
        alone: bool = True,
        **more: Any,
    ) -> Traffic:
        """Return the traffic so far.

        :param view: what the client's channels tell
        :param alone: whether nobody else of the test sent calls meanwhile
        :param more: further fields of `Traffic`
        """
        watch, picker = self.watch, self.picker
        # Channels pick by themselves; a proxy's round goes round among all that use it.
        in_rows = alone or not picker.proxied
        rebuilds = picker.rebuilds(view, ended=ended_at_s is not None) if in_rows else None
        return Traffic(
            strategy=self.strategy.name,
            mechanism=self.strategy.mechanism,
            calls=calls,
            # A pod that had gone before counting began is none of this traffic's business.
            backends=tuple(
                backend
                for backend in watch.backends()
                if backend.removed_at_s is None or backend.removed_at_s >= started_at_s
            ),
            started_at_s=started_at_s,
            ended_at_s=ended_at_s,
            channels=channels,
            picker_rebuilds=rebuilds,
            proxied=picker.proxied,
            pickers=picker.pickers(),
            connections=view.connections,
            resolved=tuple(dict.fromkeys(each.address for each in view.connections)),
            events=tuple(
                sorted(
                    (
                        *(event for event in watch.events() if event.at_s >= started_at_s),
                        *with_pods(view.events, watch.backends()),
                    ),
                    key=lambda event: event.at_s,
                )
            ),
            timers=self.timers,
            settings=self._settings_in_force(),
            alpha=alpha,
            power=self.settings.power,
            skew=self.settings.skew,
            observer=self.observer,
            **more,
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
