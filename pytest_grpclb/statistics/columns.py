"""What the columns of calls say of backends and channels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pytest_grpclb.model import UNKNOWN_BACKEND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_grpclb.model import Calls

__all__ = [
    "Answer",
    "ChannelPath",
    "answers",
    "channel_paths",
    "count_unnamed",
    "first_answers",
]


class Answer(NamedTuple):
    """An answered call whose backend is known; a tuple, for there are many."""

    sequence: int
    channel: int
    sent_s: float
    done_s: float
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPath:
    """The backends that one channel's calls went to, in the order in which they were sent."""

    channel: int
    first_backend: str
    calls: int
    switches: int
    """How often a call went to another backend than the one before it."""


def answers(calls: Calls) -> Iterator[Answer]:
    """Yield the answered calls whose backend is known, in the order in which they ended."""
    rows = zip(
        calls.sequence,
        calls.channel,
        calls.sent_s,
        calls.done_s,
        calls.backend,
        calls.status,
        strict=True,
    )
    for sequence, channel, sent_s, done_s, backend, status in rows:
        if backend != UNKNOWN_BACKEND and (status == 0 or status in calls.allowed):
            yield Answer(sequence, channel, sent_s, done_s, calls.identities[backend])


def count_unnamed(calls: Calls) -> int:
    """Return how many answered calls nothing names the backend of."""
    return sum(
        status == 0 and backend == UNKNOWN_BACKEND
        for backend, status in zip(calls.backend, calls.status, strict=True)
    )


def first_answers(calls: Calls) -> dict[str, float]:
    """Return when each backend first answered."""
    first: dict[str, float] = {}
    for answer in answers(calls):
        first.setdefault(answer.backend, answer.done_s)
    return first


def channel_paths(answered: Iterable[Answer]) -> list[ChannelPath]:
    """Return the path of each channel that got answers, by channel."""
    # By sending order: where a connection is replaced, answers of the old and the new one mix.
    ordered = sorted((answer.channel, answer.sequence, answer.backend) for answer in answered)
    by_channel: dict[int, list[str]] = {}
    for channel, _, backend in ordered:
        by_channel.setdefault(channel, []).append(backend)
    return [
        ChannelPath(
            channel=channel,
            first_backend=backends[0],
            calls=len(backends),
            switches=sum(a != b for a, b in itertools.pairwise(backends)),
        )
        for channel, backends in by_channel.items()
    ]
