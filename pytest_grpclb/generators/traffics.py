"""Generators of whole traffic: columns of calls that give the counts wanted."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pytest_grpclb.generators.bounds import require_seconds, require_whole, seconds
from pytest_grpclb.model import UNKNOWN_BACKEND, Backend, Calls, Failure, Mechanism, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hypothesis.strategies import DrawFn

__all__ = ["traffics"]

_FAILURES = {
    14: "Socket closed",
    4: "Deadline Exceeded",
    13: "Received RST_STREAM with error code 2",
}
"""Status codes of failed calls, and what gRPC says then.

Source: gRPC documentation, "Status codes".
"""

_SEEDS = 2**32
"""Orders of sending to choose from: more than a test run can look at."""


def traffics(
    counts: Mapping[str, int] | SearchStrategy[Mapping[str, int]],
    *,
    mechanism: Mechanism = Mechanism.ROUND_ROBIN,
    channels: int = 1,
    max_failures: int = 0,
    max_duration_s: float = 10.0,
    strategy: str = "generated",
) -> SearchStrategy[Traffic]:
    """Generate finished traffic whose answered calls give *counts*, by UID.

    Which channel sent a call follows the mechanism. Round robin: each channel goes around the
    backends in one order (counts that no round robin gives make it leave some out). Random: any
    channel, any order. Connection: a channel stays on one backend as long as its calls last, and
    goes to another one only where more backends were called than there are channels.

    In the simplest traffic channels take turns and calls end in the order in which they were sent.

    >>> from hypothesis import find
    >>> traffic = find(traffics({"uid-1": 3, "uid-2": 2}), lambda traffic: True)
    >>> traffic.calls.backend, traffic.calls.sequence
    ((0, 1, 0, 1, 0), (0, 1, 2, 3, 4))
    >>> traffic.counts()
    {'uid-1': 3, 'uid-2': 2}

    :param counts: answered calls of each backend, or a generator of them, such as `even_counts`
    :param channels: as many as the pickers that the counts were made for
    :param max_failures: most failed calls beside the counted ones
    :param max_duration_s: longest time over which calls are sent
    :param strategy: name of the load-balancing strategy
    :raises ValueError: if there is no backend, a count is negative, or a number is none
    """
    require_whole("channels", channels, least=1)
    require_whole("max_failures", max_failures, least=0)
    require_seconds("max_duration_s", max_duration_s)
    if mechanism not in tuple(Mechanism):
        names = ", ".join(str(each) for each in Mechanism)
        raise ValueError(f"mechanism: {mechanism!r} is no mechanism; choose from {names}")
    if not (isinstance(strategy, str) and strategy):
        raise ValueError(f"strategy: {strategy!r} is no name of a load-balancing strategy")
    if not isinstance(counts, SearchStrategy):
        _require_counts(counts)
        counts = st.just(dict(counts))
    return _traffics(
        counts,
        mechanism=mechanism,
        channels=channels,
        max_failures=max_failures,
        max_duration_s=max_duration_s,
        strategy=strategy,
    )


@st.composite
def _traffics(
    draw: DrawFn,
    generator: SearchStrategy[Mapping[str, int]],
    *,
    mechanism: Mechanism,
    channels: int,
    max_failures: int,
    max_duration_s: float,
    strategy: str,
) -> Traffic:
    counts = draw(generator)
    _require_counts(counts)
    uids = list(counts)
    # One number instead of thousands of draws: Hypothesis bounds what an example may draw. It is
    # its own, so that examples come again; 0, the simplest, stands for no disorder at all.
    seed = draw(st.integers(0, _SEEDS - 1))
    disorder = random.Random(seed) if seed else None  # noqa: S311 - to be repeatable, not secret
    streams = _streams(list(counts.values()), mechanism, channels)
    if mechanism is Mechanism.RANDOM and disorder:
        streams = _dealt_at_random(streams, disorder)
    sent = [(channel, backend, 0) for channel, backend in _merge(streams, disorder)]
    failures = draw(st.integers(0, max_failures))
    sent = _with_failures(sent, failures, channels, disorder)
    started_at_s = draw(seconds(0.0, 1000.0))
    calls = _timed(
        sent,
        uids,
        disorder,
        started_at_s=started_at_s,
        duration_s=draw(seconds(min(0.1, max_duration_s), max_duration_s)),
        latency_s=draw(seconds(0.001, 0.1)),
    )
    called = sum(count > 0 for count in counts.values())
    pinned = mechanism is Mechanism.CONNECTION
    return Traffic(
        strategy=strategy,
        mechanism=mechanism,
        calls=calls,
        backends=tuple(
            Backend(
                uid=uid,
                name=f"pod-{number}",
                address=f"10.0.{number // 256}.{number % 256}",
                ready_at_s=started_at_s,
            )
            for number, uid in enumerate(uids, start=1)
        ),
        started_at_s=started_at_s,
        ended_at_s=max(calls.done_s, default=started_at_s),
        channels=channels,
        # Each connection that is replaced changes its channel's set of ready ones.
        picker_rebuilds=max(0, called - channels) if pinned else 0,
        failures=_failures(calls),
        warm_up_seen=(1 if pinned else len(uids),) * channels,
    )


def _require_counts(counts: Mapping[str, int]) -> None:
    if not (isinstance(counts, Mapping) and counts):
        raise ValueError(f"counts: {counts!r} is no mapping of at least 1 UID to its calls")
    for uid, count in counts.items():
        require_whole(f"counts[{uid!r}]", count, least=0)


def _streams(counts: Sequence[int], mechanism: Mechanism, channels: int) -> list[list[int]]:
    """Return the backends that each channel's calls go to, in the order of sending."""
    streams: list[list[int]] = [[] for _ in range(channels)]
    if mechanism is Mechanism.CONNECTION:
        called = [backend for backend, count in enumerate(counts) if count]
        # Channels share a backend where they outnumber the backends, and change it where not.
        for number in range(max(channels, len(called)) if called else 0):
            backend = called[number % len(called)]
            sharing = range(number % len(called), max(channels, len(called)), len(called))
            each, over = divmod(counts[backend], len(sharing))
            share = each + (sharing.index(number) < over)
            streams[number % channels] += [backend] * share
        return streams
    by_count = sorted(range(len(counts)), key=lambda backend: -counts[backend])
    rounds = [
        [backend for backend in by_count if counts[backend] > number]
        for number in range(max(counts))
    ]
    # Of an even spread only the last rounds are incomplete, no more of them than channels: dealt in
    # turn, they give each channel at most one, as its last.
    for number, backends in enumerate(rounds):
        streams[number % channels] += backends
    return streams


def _dealt_at_random(streams: Sequence[Sequence[int]], disorder: random.Random) -> list[list[int]]:
    backends = [backend for stream in streams for backend in stream]
    disorder.shuffle(backends)
    dealt: list[list[int]] = [[] for _ in streams]
    for backend in backends:
        disorder.choice(dealt).append(backend)
    return dealt


def _merge(
    streams: Sequence[Sequence[int]], disorder: random.Random | None
) -> Iterator[tuple[int, int]]:
    """Yield channel and backend of each call; the calls of one channel stay in their order."""
    turns = [
        channel
        for _, channel in sorted(
            (place, channel)
            for channel, stream in enumerate(streams)
            for place in range(len(stream))
        )
    ]
    if disorder:
        disorder.shuffle(turns)
    left = [iter(stream) for stream in streams]
    for channel in turns:
        yield channel, next(left[channel])


def _with_failures(
    sent: list[tuple[int, int, int]], failures: int, channels: int, disorder: random.Random | None
) -> list[tuple[int, int, int]]:
    """Return *sent* with failed calls anywhere between the others; in order, in front of them."""
    statuses = tuple(_FAILURES)
    if disorder is None:
        return [
            (number % channels, UNKNOWN_BACKEND, statuses[0]) for number in range(failures)
        ] + sent
    for _ in range(failures):
        failed = (disorder.randrange(channels), UNKNOWN_BACKEND, disorder.choice(statuses))
        sent.insert(disorder.randint(0, len(sent)), failed)
    return sent


def _timed(
    sent: Sequence[tuple[int, int, int]],
    uids: Sequence[str],
    disorder: random.Random | None,
    *,
    started_at_s: float,
    duration_s: float,
    latency_s: float,
) -> Calls:
    """Return *sent* (channel, backend, status) with moments, in the order in which calls ended."""
    rows = []
    for sequence, (channel, backend, status) in enumerate(sent):
        # Whole microseconds, to read well; a double has digits to spare.
        sent_s = round(started_at_s + duration_s * sequence / len(sent), 6)
        # From half to one and a half times: calls overtake each other, the mean latency stays.
        factor = 0.5 + disorder.random() if disorder else 1.0
        done_s = round(sent_s + factor * latency_s, 6)
        rows.append((done_s, sequence, sent_s, channel, backend, status))
    rows.sort()
    answered = dict.fromkeys(row[4] for row in rows if row[4] != UNKNOWN_BACKEND)
    index = {backend: place for place, backend in enumerate(answered)}
    return Calls(
        sequence=tuple(row[1] for row in rows),
        channel=tuple(row[3] for row in rows),
        sent_s=tuple(row[2] for row in rows),
        done_s=tuple(row[0] for row in rows),
        backend=tuple(index.get(row[4], UNKNOWN_BACKEND) for row in rows),
        status=tuple(row[5] for row in rows),
        identities=tuple(uids[backend] for backend in answered),
    )


def _failures(calls: Calls) -> tuple[Failure, ...]:
    kept = []
    told = dict.fromkeys(_FAILURES, 0)
    for sequence, status in zip(calls.sequence, calls.status, strict=True):
        # The driver, too, tells details of so many of each status only; here few, to be met often.
        if status and told[status] < 20:
            told[status] += 1
            kept.append(Failure(sequence=sequence, status=status, details=_FAILURES[status]))
    return tuple(kept)
