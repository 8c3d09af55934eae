"""What happened to a client's connections, from the accounts that its channels gave in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_grpclb.model import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_grpclb.model import Backend, Connection

__all__ = ["changes", "with_pods"]

_READY = "READY"
"""State of a subchannel that has a connection. Source: gRPC, "Connectivity Semantics and API"."""


def changes(
    before: Sequence[Connection], after: Sequence[Connection], *, at_s: float
) -> list[Event]:
    """Return what must have happened between two accounts of the same channels.

    A connection that was opened and closed again in between is told, for subchannels count theirs.
    An answer of DNS is told where it changed the addresses: a client keeps no account of others.

    :param at_s: when the later account was given, hence when it had happened at the latest
    """
    events = []
    for channel in sorted({each.channel for each in (*before, *after)}):
        old, new = _by_number(before, channel), _by_number(after, channel)
        known = {each.address for each in new.values()}
        came = known - {each.address for each in old.values()}
        went = {each.address for each in old.values()} - known
        if came or went:
            events.append(
                Event(
                    at_s=at_s,
                    kind=EventKind.RESOLVED,
                    channel=channel,
                    detail=f"{len(known)} known, {len(came)} new, {len(went)} gone",
                )
            )
        for number, address in sorted(old.keys() | new.keys(), key=lambda each: each[::-1]):
            opened, closed = _traffic(old.get((number, address)), new.get((number, address)))
            for kind, times in (
                (EventKind.CONNECTION_CLOSED, closed),
                (EventKind.CONNECTION_OPENED, opened),
            ):
                event = Event(at_s=at_s, kind=kind, channel=channel, address=address)
                events += [event] * times
    return events


def with_pods(events: Iterable[Event], backends: Sequence[Backend]) -> tuple[Event, ...]:
    """Return *events* with the UID of the pod that each address belongs to.

    :param backends: every pod that there was, in order of readiness
    """
    # Of two pods that had the same address one after the other, the later one is meant.
    uids = {address: backend.uid for backend in backends for address in backend.addresses}
    return tuple(replace(event, backend=uids.get(_host(event.address), "")) for event in events)


def _by_number(
    connections: Sequence[Connection], channel: int
) -> dict[tuple[int, str], Connection]:
    mine = [each for each in connections if each.channel == channel]
    return {(each.subchannel, each.address): each for each in mine}


def _traffic(old: Connection | None, new: Connection | None) -> tuple[int, int]:
    """Return how many connections were opened and how many were closed."""
    stood = old is not None and old.state == _READY
    stands = new is not None and new.state == _READY
    counted = (new.connections if new else 0) - (old.connections if old else 0)
    # gRPC may have forgotten the oldest openings: a connection that stands now was opened.
    opened = max(counted, int(stands and not stood), 0)
    return opened, stood + opened - stands


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
