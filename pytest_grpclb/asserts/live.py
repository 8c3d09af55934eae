"""Traffic that may still be sent, and what of it may be judged."""

from __future__ import annotations

from typing import Protocol

from pytest_grpclb.model import Traffic

__all__ = ["LiveTraffic", "finished", "require_traffic"]

__tracebackhide__ = True  # what an error says is for people; these frames are not


class LiveTraffic(Protocol):
    """Calls that are being sent, or were."""

    def snapshot(self) -> Traffic:
        """Return the calls so far, and all that happened meanwhile."""

    def wait(self, timeout_s: float) -> None:
        """Return when there is more to see, or *timeout_s* has passed."""

    def now_s(self) -> float:
        """Return the moment, on the clock of the traffic."""


def require_traffic(source: object) -> None:
    """Refuse what is no traffic: the fixture itself, or a channel.

    :raises TypeError: with what to give instead
    """
    if not isinstance(source, Traffic) and not hasattr(source, "snapshot"):
        raise TypeError(
            f"traffic: expected what grpclb.drive(), traffic(), streams() or recorded(channel) "
            f"give, got a {type(source).__name__}"
        )


def finished(source: Traffic | LiveTraffic) -> Traffic:
    """Return the calls of a run that has ended.

    :raises TypeError: if it is no traffic
    :raises ValueError: if it goes on: of calls that are under way only the quick ones are known
    """
    require_traffic(source)
    if isinstance(source, Traffic):
        return source
    traffic = source.snapshot()
    if traffic.ended_at_s is None:
        raise ValueError(
            "traffic: it is still being sent; write this assertion after the `with` block, or end "
            "the traffic by `traffic.stop()`"
        )
    return traffic
