"""Generated traffic: its columns, and what the project's own assertions say of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.asserts import assert_even_spread, assert_no_failed_calls, assert_pinned
from pytest_grpclb.generators import SkewKind, even_counts, skewed_counts, traffics
from pytest_grpclb.model import UNKNOWN_BACKEND, Calls, Failure, Mechanism, Traffic
from pytest_grpclb.statistics import answers, calls_needed, channel_paths

from .finding import find

if TYPE_CHECKING:
    from collections.abc import Callable

UIDS = tuple(f"uid-{number}" for number in range(1, 7))

any_counts = st.dictionaries(st.sampled_from(UIDS), st.integers(0, 40), min_size=1)
any_mechanism = st.sampled_from(Mechanism)
any_channels = st.integers(1, 5)


def by_channel(traffic: Traffic) -> dict[int, list[str]]:
    """Return who answered each channel's calls, in the order of sending."""
    found: dict[int, list[str]] = {}
    for answer in sorted(answers(traffic.calls)):
        found.setdefault(answer.channel, []).append(answer.backend)
    return found


# --- columns


@given(st.data(), any_counts, any_mechanism, any_channels, st.integers(0, 6))
def test_answered_calls_give_the_counts_and_failed_ones_come_on_top(
    data: st.DataObject,
    counts: dict[str, int],
    mechanism: Mechanism,
    channels: int,
    failures: int,
) -> None:
    traffic = data.draw(
        traffics(counts, mechanism=mechanism, channels=channels, max_failures=failures)
    )
    calls = traffic.calls
    assert traffic.counts() == counts
    failed = sum(status != 0 for status in calls.status)
    assert len(calls) == sum(counts.values()) + failed
    assert failed <= failures
    assert len(traffic.failures) == failed
    assert {failure.sequence: failure.status for failure in traffic.failures} == {
        sequence: status
        for sequence, status in zip(calls.sequence, calls.status, strict=True)
        if status
    }
    assert [backend.uid for backend in traffic.backends] == list(counts)
    assert traffic.mechanism is mechanism
    assert traffic.channels == channels == len(traffic.warm_up_seen)


@given(st.data(), any_counts, any_mechanism, any_channels)
def test_columns_are_as_a_driver_reports_them(
    data: st.DataObject, counts: dict[str, int], mechanism: Mechanism, channels: int
) -> None:
    traffic = data.draw(
        traffics(counts, mechanism=mechanism, channels=channels, max_failures=4, max_duration_s=5)
    )
    calls = traffic.calls
    rows = len(calls)
    columns = (calls.channel, calls.sent_s, calls.done_s, calls.backend, calls.status)
    assert all(len(column) == rows for column in columns)
    assert sorted(calls.sequence) == list(range(rows))
    assert set(calls.channel) <= set(range(channels))
    assert list(calls.done_s) == sorted(calls.done_s)
    sent_s = [sent for _, sent in sorted(zip(calls.sequence, calls.sent_s, strict=True))]
    assert sent_s == sorted(sent_s)
    assert all(
        0.0 < done - sent < 0.151 for sent, done in zip(calls.sent_s, calls.done_s, strict=True)
    )
    assert traffic.ended_at_s is not None
    if rows:
        assert traffic.started_at_s == sent_s[0]
        assert sent_s[-1] - sent_s[0] < 5.0
        assert traffic.ended_at_s == calls.done_s[-1]
    else:
        assert traffic.ended_at_s == traffic.started_at_s
    named = [backend for backend in calls.backend if backend != UNKNOWN_BACKEND]
    assert list(dict.fromkeys(named)) == list(range(len(calls.identities)))
    assert all(
        (backend == UNKNOWN_BACKEND) == (status != 0)
        for backend, status in zip(calls.backend, calls.status, strict=True)
    )


# --- mechanisms


@given(st.data(), st.integers(2, 6), st.integers(0, 200), st.integers(1, 5))
def test_each_channel_goes_around_the_backends_where_the_counts_come_from_a_round_robin(
    data: st.DataObject, backends: int, calls: int, channels: int
) -> None:
    counts = even_counts(backends, calls, pickers=channels)
    traffic = data.draw(traffics(counts, channels=channels))
    for sent_to in by_channel(traffic).values():
        around = sent_to[:backends]
        assert len(set(around)) == len(around)
        assert all(backend == around[place % backends] for place, backend in enumerate(sent_to))


@given(st.data(), any_counts, any_channels)
def test_a_connection_carries_the_calls_of_one_backend_after_the_other(
    data: st.DataObject, counts: dict[str, int], channels: int
) -> None:
    traffic = data.draw(traffics(counts, mechanism=Mechanism.CONNECTION, channels=channels))
    called = sum(count > 0 for count in counts.values())
    switches = sum(path.switches for path in channel_paths(answers(traffic.calls)))
    assert switches == max(0, called - channels) == traffic.picker_rebuilds
    assert traffic.warm_up_seen == (1,) * channels


def test_channels_share_the_calls_of_a_backend_that_they_are_pinned_to() -> None:
    generator = traffics({"uid-1": 7, "uid-2": 2}, mechanism=Mechanism.CONNECTION, channels=3)
    paths = channel_paths(answers(find(generator, lambda _: True).calls))
    assert [(path.first_backend, path.calls) for path in paths] == [
        ("uid-1", 4),  # channels 0 and 2 share the seven
        ("uid-2", 2),
        ("uid-1", 3),
    ]


def test_random_picks_may_come_in_an_order_that_no_round_robin_gives() -> None:
    generator = traffics({"uid-1": 4, "uid-2": 4}, mechanism=Mechanism.RANDOM, channels=2)
    traffic = find(generator, lambda each: sorted(Counter(each.calls.channel).values()) == [1, 7])
    assert traffic.counts() == {"uid-1": 4, "uid-2": 4}
    repeated = find(
        traffics({"uid-1": 4, "uid-2": 4}, mechanism=Mechanism.RANDOM),
        lambda each: by_channel(each)[0][:4] == ["uid-2"] * 4,
    )
    assert by_channel(repeated)[0] == ["uid-2"] * 4 + ["uid-1"] * 4


def test_calls_may_end_in_another_order_than_they_were_sent_in() -> None:
    traffic = find(
        traffics({"uid-1": 5, "uid-2": 5}),
        lambda each: list(each.calls.sequence) != sorted(each.calls.sequence),
    )
    assert list(traffic.calls.done_s) == sorted(traffic.calls.done_s)


# --- shrinking


def test_traffic_shrinks_to_channels_that_take_turns_and_one_millisecond_a_call() -> None:
    traffic = find(traffics({"uid-1": 2, "uid-2": 2}, channels=2, max_failures=3), lambda _: True)
    assert traffic.calls == Calls(
        sequence=(0, 1, 2, 3),
        channel=(0, 1, 0, 1),
        sent_s=(0.0, 0.025, 0.05, 0.075),
        done_s=(0.001, 0.026, 0.051, 0.076),
        backend=(0, 0, 1, 1),
        status=(0, 0, 0, 0),
        identities=("uid-1", "uid-2"),
    )
    assert (traffic.started_at_s, traffic.ended_at_s) == (0.0, 0.076)
    assert traffic.strategy == "generated"
    assert [(each.uid, each.name, each.ready_at_s) for each in traffic.backends] == [
        ("uid-1", "pod-1", 0.0),
        ("uid-2", "pod-2", 0.0),
    ]


def test_a_failure_shrinks_to_one_unavailable_in_front() -> None:
    traffic = find(traffics({"uid-1": 1}, max_failures=5), lambda each: any(each.calls.status))
    assert traffic.calls.status == (14, 0)
    assert traffic.failures == (Failure(sequence=0, status=14, details="Socket closed"),)


@pytest.mark.parametrize(
    ("status", "details"),
    [
        (4, "Deadline Exceeded"),
        (13, "Received RST_STREAM with error code 2"),
        (14, "Socket closed"),
    ],
)
def test_each_status_of_failure_occurs_behind_answered_calls_too(status: int, details: str) -> None:
    traffic = find(
        traffics({"uid-1": 1}, max_failures=1, channels=2),
        lambda each: (
            (each.calls.sequence, each.calls.status) == ((0, 1), (0, status))
            and each.calls.channel[1] == 1
        ),
    )
    assert traffic.failures == (Failure(sequence=1, status=status, details=details),)


def test_details_are_kept_of_twenty_failures_of_a_status() -> None:
    traffic = find(
        traffics({"uid-1": 0}, max_failures=500), lambda each: each.calls.status.count(14) > 20
    )
    assert traffic.calls.status == (14,) * 21
    assert [failure.sequence for failure in traffic.failures] == list(range(20))


# --- what the assertions say


@given(st.data(), st.integers(2, 5), st.integers(1, 4), st.integers(0, 50))
def test_even_traffic_passes_the_assertion_on_an_even_spread(
    data: st.DataObject, backends: int, channels: int, more: int
) -> None:
    calls = more + calls_needed(backends, alpha=1e-6, power=0.999, skew=1.5)
    mechanism = data.draw(st.sampled_from([Mechanism.ROUND_ROBIN, Mechanism.RANDOM]))
    counts = even_counts(backends, calls, mechanism=mechanism, pickers=channels)
    traffic = data.draw(traffics(counts, mechanism=mechanism, channels=channels))
    verdict = assert_even_spread(traffic)
    assert (verdict.calls, verdict.backends) == (calls, backends)
    assert_no_failed_calls(traffic)


@given(st.data(), st.integers(2, 5), st.sampled_from(SkewKind))
def test_skewed_traffic_fails_the_assertion_on_an_even_spread(
    data: st.DataObject, backends: int, kind: SkewKind
) -> None:
    calls = calls_needed(backends, alpha=1e-6, power=0.999, skew=1.5)
    traffic = data.draw(traffics(skewed_counts(backends, calls, kinds=[kind])))
    with pytest.raises(AssertionError, match="SKEWED"):
        assert_even_spread(traffic)


@given(
    traffics(
        skewed_counts(3, 600, kinds=[SkewKind.ALL_ON_ONE]),
        mechanism=Mechanism.CONNECTION,
        channels=2,
        strategy="clusterip",
    )
)
def test_traffic_of_pinned_connections_passes_the_assertion_on_pinning(traffic: Traffic) -> None:
    assert traffic.strategy == "clusterip"
    assert_pinned(traffic)
    with pytest.raises(AssertionError, match="changed their backend"):
        assert_pinned(replace(traffic, calls=alternating(traffic.calls), backends=traffic.backends))


def alternating(calls: Calls) -> Calls:
    """Return *calls* with another backend for every other call of each channel."""
    return replace(
        calls,
        backend=tuple((sequence // 2) % 2 for sequence in calls.sequence),
        identities=("uid-1", "uid-2"),
    )


# --- arguments that cannot be used


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: traffics({}), "counts: {} is no mapping of at least 1 UID to its calls"),
        (
            lambda: traffics([1, 2]),  # type: ignore[arg-type]
            "counts: [1, 2] is no mapping of at least 1 UID to its calls",
        ),
        (
            lambda: traffics({"uid-1": -1}),
            "counts['uid-1']: -1 is not a whole number of at least 0",
        ),
        (
            lambda: traffics({"uid-1": 1}, channels=0),
            "channels: 0 is not a whole number of at least 1",
        ),
        (
            lambda: traffics({"uid-1": 1}, max_failures=-1),
            "max_failures: -1 is not a whole number of at least 0",
        ),
        (
            lambda: traffics({"uid-1": 1}, max_duration_s=0.0),
            "max_duration_s: 0.0 is not a number of seconds of at least 0.001",
        ),
        (
            lambda: traffics({"uid-1": 1}, mechanism="random"),  # type: ignore[arg-type]
            "mechanism: 'random' is no mechanism; choose from Mechanism.ROUND_ROBIN, "
            "Mechanism.RANDOM, Mechanism.CONNECTION",
        ),
        (
            lambda: traffics({"uid-1": 1}, strategy=""),
            "strategy: '' is no name of a load-balancing strategy",
        ),
    ],
)
def test_a_bad_argument_is_refused_with_its_value_and_limit(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_counts_that_a_generator_gives_are_checked_when_they_come() -> None:
    generator = traffics(st.just({"uid-1": -1}))
    message = "counts['uid-1']: -1 is not a whole number of at least 0"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        find(generator, lambda _: True)
    assert str(caught.value) == message
