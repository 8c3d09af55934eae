"""The facts of a run of traffic as plain text: pods, client, timeline, failed calls."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from pytest_grpclb.model import CHANGES, UNKNOWN_BACKEND, EventKind
from pytest_grpclb.settings import STATUS_NAMES
from pytest_grpclb.statistics import first_answers, latencies, percentile, slow_backends

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pytest_grpclb.model import Backend, Event, Traffic, Verdict
    from pytest_grpclb.statistics import SlowBackend

__all__ = [
    "STATUS_NAMES",
    "after_event",
    "client_view",
    "describe_slow",
    "failed_calls",
    "format_table",
    "moment",
    "opened_connections",
    "pod_name",
    "pod_table",
    "status_name",
    "timeline",
]

_TIMELINE_LINES = 24
"""A screen's worth; what is left out stands in the middle, where least happens."""

_DISRUPTIONS = (EventKind.SCALE, EventKind.KILL, EventKind.RESTART, EventKind.ENDPOINT_REMOVED)
"""Events that a failed call may follow from."""

_COMINGS_AND_GOINGS = (EventKind.CONNECTION_OPENED, EventKind.CONNECTION_CLOSED)
"""Where connections age there are many of them: one line for what was seen at one moment."""

_NAMES = 3
"""Pods named in a line; of more than that, their number says as much."""


def pod_name(traffic: Traffic, uid: str) -> str:
    """Return the name of the pod, or what the stranger called itself."""
    names = (backend.name for backend in traffic.backends if backend.uid == uid)
    return next(names, uid)


def pod_table(traffic: Traffic, verdict: Verdict) -> str:
    """Return one line per pod: what it got of the calls that the verdict is about, and when.

    Latencies, and statuses other than OK that are allowed, are of all answered calls.
    """
    first = first_answers(traffic.calls)
    for stream in traffic.streams:
        if stream.opened_s is not None:
            first[stream.backend] = min(first.get(stream.backend, math.inf), stream.opened_s)
    taken = latencies(traffic.calls)
    allowed = _allowed_answers(traffic)
    known = {backend.uid: backend for backend in traffic.backends}
    header: tuple[str, ...] = (
        "pod",
        "calls" if traffic.streams_kept_open is None else "streams",
        "share",
        "x fair",
        "conns",
        "p50 ms",
        "p99 ms",
        *(status_name(status) for status in allowed),
        "first answer",
        "ready",
        "removed",
    )
    rows: list[tuple[str, ...]] = []
    for uid, calls in verdict.counts.items():
        backend = known.get(uid)
        share = calls / verdict.calls if verdict.calls else 0.0
        rows.append(
            (
                backend.name if backend else f"{uid} (stranger)",
                str(calls),
                f"{share:.1%}",
                _times_fair(share, verdict.fair_shares.get(uid, 1.0 / verdict.backends)),
                _connections_of(traffic, backend),
                _milliseconds(taken.get(uid), 0.5),
                _milliseconds(taken.get(uid), 0.99),
                *(str(numbers[uid]) for numbers in allowed.values()),
                moment(traffic, first[uid]) if uid in first else "never",
                moment(traffic, backend.ready_at_s) if backend else "-",
                moment(traffic, backend.removed_at_s) if backend else "-",
            )
        )
    if all(row[-1] == "-" for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    slow = slow_backends(taken, alpha=traffic.alpha)
    return "\n".join(
        (format_table(header, rows), *(f"slow: {describe_slow(traffic, each)}" for each in slow))
    )


def describe_slow(traffic: Traffic, slow: SlowBackend) -> str:
    """Say how slow a backend is."""
    times = f", {slow.median_s / slow.others_s:.1f} times" if slow.others_s else ", more than"
    return (
        f"half of the calls to {pod_name(traffic, slow.backend)} took {slow.median_s * 1000:.1f} "
        f"ms or more{times} the median of the other pods"
    )


def client_view(traffic: Traffic) -> str:
    """Return what the client knew: its settings, addresses, channels and connections."""
    facts = dict(traffic.settings)
    channels = str(traffic.channels)
    if traffic.warm_up_seen:
        seen = sorted(set(traffic.warm_up_seen))
        span = str(seen[0]) if len(seen) == 1 else f"{seen[0]} to {seen[-1]}"
        channels += f"; backends that warm-up saw on each: {span}"
    facts["channels"] = channels
    if traffic.connections:
        states = Counter(connection.state for connection in traffic.connections)
        told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        facts["subchannels"] = f"{told}; connections opened: {opened_connections(traffic)}"
    if traffic.resolved:
        facts["resolved"] = ", ".join(traffic.resolved[:4])
        if len(traffic.resolved) > 4:
            facts["resolved"] += f" and {len(traffic.resolved) - 4} more"
    if traffic.attribution:
        facts["who answered"] = f"by {traffic.attribution}"
    rebuilds = traffic.picker_rebuilds
    facts["picker rebuilds"] = "unknown" if rebuilds is None else str(rebuilds)
    width = max(len(name) for name in facts)
    return "\n".join(f"{name:{width}}  {value}".rstrip() for name, value in facts.items())


def timeline(traffic: Traffic) -> str:
    """Return what happened while traffic ran, and when each pod first answered."""
    moments = [
        (event.at_s, _describe_event(traffic, event))
        for event in traffic.events
        if event.kind not in _COMINGS_AND_GOINGS
    ]
    moments += [
        (at_s, f"first answer of {pod_name(traffic, uid)}")
        for uid, at_s in first_answers(traffic.calls).items()
    ]
    moments.append((traffic.started_at_s, "calls are counted from here"))
    if traffic.ended_at_s is not None:
        moments.append((traffic.ended_at_s, "traffic ends"))
    connections = _describe_connections(traffic)
    if len(moments) + len(connections) <= _TIMELINE_LINES:
        moments += connections
    lines = [f"{moment(traffic, at_s)}  {what}" for at_s, what in sorted(moments)]
    if len(lines) > _TIMELINE_LINES:
        half = _TIMELINE_LINES // 2
        lines[half:-half] = [f"... {len(lines) - 2 * half} more ..."]
    lines = _align_right(lines)
    if len(moments) + len(connections) > _TIMELINE_LINES and connections:
        numbers = Counter(event.kind for event in traffic.events)
        told = ", ".join(f"{kind.value} x {numbers[kind]}" for kind in _COMINGS_AND_GOINGS)
        lines.append(f"left out: {told}")
    return "\n".join(lines)


def failed_calls(traffic: Traffic, *, without: Collection[int] = ()) -> str:
    """Return how many calls failed with which status, when, and what the first one said.

    :param without: sequence numbers of failed calls to leave out
    """
    calls = traffic.calls
    by_status: dict[int, list[int]] = {}
    for row, status in enumerate(calls.status):
        allowed = not status or status in calls.allowed
        if not allowed and calls.sequence[row] not in without:
            by_status.setdefault(status, []).append(row)
    details = {failure.sequence: failure.details for failure in reversed(traffic.failures)}
    blocks = []
    for status, rows in sorted(by_status.items(), key=lambda item: -len(item[1])):
        first, last = calls.done_s[rows[0]], calls.done_s[rows[-1]]
        span = moment(traffic, first)
        if len(rows) > 1:
            span += f" to {moment(traffic, last)}"
        pod = calls.backend[rows[0]]
        uid = "" if pod == UNKNOWN_BACKEND else calls.identities[pod]
        after = after_event(traffic, first, backend=uid)
        lines = [f"{status_name(status)} x {len(rows)}, {span}{after}"]
        told = [details[calls.sequence[row]] for row in rows if calls.sequence[row] in details]
        if told:
            lines.append(f"  the first one said: {told[0]}")
        named = Counter(
            calls.identities[calls.backend[row]]
            for row in rows
            if calls.backend[row] != UNKNOWN_BACKEND
        )
        if named:
            lines.append(
                "  from "
                + ", ".join(f"{pod_name(traffic, uid)} x {n}" for uid, n in named.most_common(5))
            )
        blocks += lines
    return "\n".join(blocks)


def format_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str] = ("pod",)
) -> str:
    """Return aligned columns, numbers to the right.

    :param left: headers of the columns that are aligned to the left
    """
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def opened_connections(traffic: Traffic) -> int:
    """Return how many connections the client opened; its channels, where it does not tell."""
    return sum(each.connections for each in traffic.connections) or traffic.channels


def _times_fair(share: float, fair_share: float) -> str:
    return f"{share / fair_share:.2f}" if fair_share else "-"


def _milliseconds(taken_s: Sequence[float] | None, fraction: float) -> str:
    return f"{percentile(taken_s, fraction) * 1000:.1f}" if taken_s else "-"


def _allowed_answers(traffic: Traffic) -> dict[int, Counter[str]]:
    """Return how many answers with a status other than OK each backend gave, by status."""
    calls = traffic.calls
    found: dict[int, Counter[str]] = {}
    for backend, status in zip(calls.backend, calls.status, strict=True):
        if status in calls.allowed and backend != UNKNOWN_BACKEND:
            found.setdefault(status, Counter())[calls.identities[backend]] += 1
    return dict(sorted(found.items()))


def _connections_of(traffic: Traffic, backend: Backend | None) -> str:
    """Count the connections opened to a pod; a dash where the client sees no pod addresses."""
    opened = [
        each.connections
        for each in traffic.connections
        if backend is not None and each.address.rpartition(":")[0].strip("[]") in backend.addresses
    ]
    return str(sum(opened)) if opened else "-"


def _describe_event(traffic: Traffic, event: Event) -> str:
    who = f" {pod_name(traffic, event.backend)}" if event.backend else ""
    detail = f" {event.detail}" if event.detail else ""
    several = event.channel is not None and traffic.channels > 1
    channel = f" (channel {event.channel})" if several else ""
    return f"{event.kind.value}{who}{detail}{channel}"


def _describe_connections(traffic: Traffic) -> list[tuple[float, str]]:
    """Return a line for all connections that were seen to be opened, or closed, at one moment."""
    seen: dict[tuple[float, EventKind], Counter[str]] = {}
    for event in traffic.events:
        if event.kind in _COMINGS_AND_GOINGS:
            who = pod_name(traffic, event.backend) if event.backend else event.address
            seen.setdefault((event.at_s, event.kind), Counter())[who] += 1
    lines = []
    for (at_s, kind), ends in seen.items():
        names = [f"{who} x {number}" if number > 1 else who for who, number in ends.items()]
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        lines.append((at_s, f"{kind.value} {', '.join(names[:_NAMES])}{more}"))
    return lines


def after_event(traffic: Traffic, at_s: float, *, backend: str = "") -> str:
    """Return how long after which event a moment was, with a comma in front; empty if after none.

    :param backend: UID of a pod whose own events explain more than those of others; empty: none
    """
    before = [
        event for event in traffic.events if event.at_s <= at_s and event.kind in _DISRUPTIONS
    ]
    own = [event for event in before if backend and event.backend == backend]
    if not before:
        return ""
    # What was done to the pod explains what followed of it, such as the end of its endpoint.
    done = [event for event in own if event.kind in CHANGES]
    last = max(done or own or before, key=lambda event: event.at_s)
    return f", {at_s - last.at_s:.3f} s after {_describe_event(traffic, last)}"


def status_name(status: int) -> str:
    """Return what gRPC calls a status code."""
    return STATUS_NAMES[status] if status < len(STATUS_NAMES) else f"status {status}"


def moment(traffic: Traffic, at_s: float | None) -> str:
    """Return a moment as seconds since counting began; a dash for none."""
    return "-" if at_s is None else f"{at_s - traffic.started_at_s:+.3f} s"


def _align_right(lines: Sequence[str]) -> list[str]:
    """Pad the moments in front so that their points stand in one column."""
    width = max(line.index(" ") for line in lines)
    return [" " * (width - line.index(" ")) + line for line in lines]
