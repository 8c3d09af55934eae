"""Streams as plain text: how many each pod had open when, and why they ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_grpclb.model import CHANGES
from pytest_grpclb.report.tables import (
    after_event,
    format_table,
    moment,
    pod_name,
    status_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_grpclb.model import Stream, Traffic

__all__ = ["ended_streams", "stream_table"]

_MOMENTS = 5
"""Columns of a table, beside the last: a terminal's width."""


def stream_table(traffic: Traffic) -> str:
    """Return how many streams each pod had open, over time; empty if there are no streams.

    The columns are the moments of the last changes of the pods; where there was no change, moments
    at equal distances.
    """
    if not traffic.streams:
        return ""
    until_s = traffic.streams_until_s
    known = [each.opened_s for each in traffic.streams if each.opened_s is not None]
    known += [each.ended_s for each in traffic.streams if each.ended_s is not None]
    last_s = max(known, default=traffic.started_at_s) if until_s is None else until_s
    moments = [event.at_s for event in traffic.events if event.kind in CHANGES][-_MOMENTS:]
    if not moments:
        step_s = (last_s - traffic.started_at_s) / _MOMENTS
        moments = [traffic.started_at_s + step_s * number for number in range(1, _MOMENTS)]
    open_then = [traffic.open_streams(at_s) for at_s in moments] + [traffic.open_streams()]
    cut = Counter(each.backend for each in traffic.streams if each.status)
    opened = Counter(each.backend for each in traffic.streams if each.opened_s is not None)
    pods = dict.fromkeys((*(backend.uid for backend in traffic.backends), *opened))
    rows = [
        (
            pod_name(traffic, uid) or "(not named)",
            *(str(counts.get(uid, 0)) for counts in open_then),
            str(opened[uid]),
            str(cut[uid]),
        )
        for uid in pods
    ]
    header = ("pod", *(moment(traffic, at_s) for at_s in moments), "last", "opened", "failed")
    return format_table(header, rows)


def ended_streams(traffic: Traffic, streams: Iterable[Stream]) -> str:
    """Return how many of *streams* ended with which status on which pod, when, and after what."""
    details = {each.sequence: each.details for each in reversed(traffic.failures)}
    groups: dict[tuple[int, str], list[Stream]] = {}
    for stream in streams:
        if stream.ended_s is not None:
            groups.setdefault((stream.status or 0, stream.backend), []).append(stream)
    lines = []
    for (status, backend), ended in sorted(groups.items(), key=lambda item: -len(item[1])):
        moments_s = sorted(each.ended_s for each in ended if each.ended_s is not None)
        span = moment(traffic, moments_s[0])
        if len(moments_s) > 1:
            span += f" to {moment(traffic, moments_s[-1])}"
        who = pod_name(traffic, backend) if backend else "nobody knows whom"
        after = after_event(traffic, moments_s[0], backend=backend) if status else ""
        how = "" if status else ", as planned by the client or ended by the server"
        lines.append(f"{status_name(status)} x {len(ended)} of {who}, {span}{after}{how}")
        told = [details[each.sequence] for each in ended if each.sequence in details]
        if told:
            lines.append(f"  the first one said: {told[0]}")
    return "\n".join(lines)
