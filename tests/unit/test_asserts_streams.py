from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.asserts import assert_even_streams, assert_streams_stay
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import Backend, Event, EventKind, Failure, Mechanism, Outcome, Stream
from pytest_grpclb.report import stream_table

from .made_traffic import Rows, made_traffic, pods, scale_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_grpclb.model import Traffic

# 1.1 x age + connect + slack of the timers that made traffic has.
DEADLINE_S = 3.1


def opened(
    *backends: str, at_s: float = 0.0, ended_s: float | None = None, status: int | None = None
) -> list[Stream]:
    return [
        Stream(
            sequence=0,
            channel=0,
            sent_s=at_s,
            opened_s=at_s,
            backend=backend,
            ended_s=ended_s,
            status=status if ended_s is None or status is not None else 0,
        )
        for backend in backends
    ]


def streaming(streams: Iterable[Stream], *, until_s: float = 10.0, **more: Any) -> Traffic:
    """Make a finished run of streams; those that have ended are among its calls."""
    numbered = [replace(each, sequence=number) for number, each in enumerate(streams)]
    rows = Rows()
    for each in numbered:
        if each.ended_s is not None:
            rows.identities = rows.identities or list("abcdefx")
            rows.rows.append(
                (
                    each.sequence,
                    each.channel,
                    each.sent_s,
                    each.ended_s,
                    rows.identities.index(each.backend),
                    each.status or 0,
                )
            )
    known: dict[str, Any] = {
        "streams_kept_open": len(numbered),
        "streams_until_s": until_s,
        "ended_at_s": until_s,
        "mechanism": Mechanism.ROUND_ROBIN,
    }
    return made_traffic(rows, streams=tuple(numbered), **known | more)


class Live:
    """Streams that go on, on a clock that only waiting moves."""

    def __init__(self, at: Callable[[float], Traffic]) -> None:
        self.at, self.time_s = at, 0.0

    def now_s(self) -> float:
        return self.time_s

    def wait(self, timeout_s: float) -> None:
        self.time_s += timeout_s

    def snapshot(self) -> Traffic:
        return replace(self.at(self.time_s), streams_until_s=None, ended_at_s=None)


def scaled(to: int = 4) -> dict[str, Any]:
    """Say that two pods became more at 1 s, which were ready at 1.5 s."""
    old, new = pods(to)[:2], [replace(each, ready_at_s=1.5) for each in pods(to)[2:]]
    events = (
        scale_event(1.0, f"2 -> {to}"),
        *(Event(at_s=1.5, kind=EventKind.ENDPOINT_READY, backend=each.uid) for each in new),
    )
    return {"backends": [*old, *new], "events": events}


# --- open streams


def test_open_streams_are_those_that_were_answered_and_have_not_ended() -> None:
    traffic = streaming(
        [
            *opened("a", "a", at_s=1.0),
            *opened("b", at_s=1.0, ended_s=2.0),
            Stream(sequence=0, channel=0, sent_s=1.0, opened_s=None, backend=""),
            *opened("x", at_s=3.0, ended_s=10.5),
        ]
    )
    assert traffic.open_streams(0.9) == {"a": 0, "b": 0, "c": 0}
    assert traffic.open_streams(1.0) == {"a": 2, "b": 1, "c": 0}
    assert traffic.open_streams(2.0) == {"a": 2, "b": 0, "c": 0}
    # What ended when the client stopped was open until then.
    assert traffic.open_streams() == {"a": 2, "b": 0, "c": 0, "x": 1}


# --- streams that stay


def test_streams_that_outlive_the_deadline_of_a_change_stay() -> None:
    assert_streams_stay(streaming(opened("a", "b"), until_s=1.5 + DEADLINE_S, **scaled()))


def test_live_streams_are_watched_until_the_deadline() -> None:
    live = Live(lambda _: streaming(opened("a", "b"), **scaled()))
    assert_streams_stay(live)
    assert live.time_s == pytest.approx(1.5 + DEADLINE_S)


def test_how_long_they_stay_may_be_given() -> None:
    live = Live(lambda _: streaming(opened("a", "b")))
    assert_streams_stay(live, for_s=7.0)
    assert live.time_s == pytest.approx(7.0)


def test_a_stream_that_was_cut_is_told_with_its_status_and_what_was_done_to_its_pod() -> None:
    events = (
        Event(at_s=2.0, kind=EventKind.KILL, backend="a"),
        Event(at_s=2.02, kind=EventKind.ENDPOINT_REMOVED, backend="a"),
        Event(at_s=2.05, kind=EventKind.ENDPOINT_READY, backend="d"),
        Event(at_s=2.06, kind=EventKind.ENDPOINT_REMOVED, backend="b"),
    )
    traffic = streaming(
        [
            *opened("a", "a", ended_s=2.1, status=14),
            *opened("b", ended_s=3.0),
            *opened("c"),
        ],
        events=events,
        failures=(Failure(sequence=0, status=14, details="Socket closed"),),
        backends=[*pods(3), Backend(uid="d", name="pod-d", ready_at_s=2.05)],
    )
    with pytest.raises(AssertionError) as raised:
        assert_streams_stay(traffic)
    assert str(raised.value) == (
        "headless: 3 of 4 streams did not stay\n"
        "UNAVAILABLE x 2 of pod-a, +2.100 s to +2.100 s, 0.100 s after kill pod-a\n"
        "  the first one said: Socket closed\n"
        "OK x 1 of pod-b, +3.000 s, as planned by the client or ended by the server\n"
        "\n"
        "-- open streams\n"
        "pod    +2.000 s  last  opened  failed\n"
        "pod-a         2     0       2       2\n"
        "pod-b         1     0       1       0\n"
        "pod-c         1     1       1       0\n"
        "pod-d         0     0       0       0\n"
        "\n"
        "-- timeline\n"
        " +0.000 s  calls are counted from here\n"
        " +2.000 s  kill pod-a\n"
        " +2.020 s  endpoint removed pod-a\n"
        " +2.050 s  endpoint ready pod-d\n"
        " +2.060 s  endpoint removed pod-b\n"
        " +3.000 s  first answer of pod-b\n"
        "+10.000 s  traffic ends"
    )


def test_streams_that_ended_before_the_change_are_none_of_its_business() -> None:
    assert_streams_stay(streaming([*opened("a", ended_s=0.5), *opened("b")], **scaled()))


def test_streams_that_were_watched_for_too_short_a_time_tell_nothing() -> None:
    with pytest.raises(InconclusiveError) as raised:
        assert_streams_stay(streaming(opened("a"), until_s=2.0, **scaled()))
    assert str(raised.value) == (
        "INCONCLUSIVE: the streams were watched for 0.5 s after the pods changed; 3.1 s tell that "
        "they stay; let them stay open longer"
    )


def test_a_change_that_no_stream_saw() -> None:
    with pytest.raises(ValueError, match="none of") as raised:
        assert_streams_stay(streaming(opened("a", at_s=5.0), **scaled()))
    assert str(raised.value) == (
        "traffic: none of its 1 stream was open when the pods changed; wait until they are, for "
        "instance with assert_even_streams"
    )


@pytest.mark.parametrize("check", [assert_streams_stay, assert_even_streams])
def test_calls_that_are_no_streams(check: Callable[[Traffic], object]) -> None:
    with pytest.raises(ValueError, match="no streams") as raised:
        check(made_traffic("abc"))
    assert str(raised.value) == (
        "traffic: its calls are no streams; open some within `with grpclb.streams() as traffic`"
    )
    with pytest.raises(ValueError, match="its timers are unknown"):
        check(streaming(opened("a"), timers=None))


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_times_that_are_none(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"^for_s must be above 0, got {seconds}$"):
        assert_streams_stay(streaming(opened("a")), for_s=seconds)
    with pytest.raises(ValueError, match=f"^within_s must be above 0, got {seconds}$"):
        assert_even_streams(streaming(opened("a")), within_s=seconds)


# --- streams that are open evenly


def test_streams_of_a_picker_that_stood_are_judged_by_the_exact_bound() -> None:
    verdict = assert_even_streams(streaming(opened(*"abc" * 200), picker_rebuilds=0))
    assert verdict.test == "exact round-robin bound"
    assert verdict.counts == {"a": 200, "b": 200, "c": 200}
    with pytest.raises(AssertionError) as raised:
        assert_even_streams(streaming(opened(*"abc" * 200, "a", "a"), picker_rebuilds=0))
    assert "pod-a was given 2 streams more than pod-b" in str(raised.value)


def test_once_a_stream_has_ended_the_others_are_no_row_any_more() -> None:
    streams = [*opened("a", ended_s=1.0), *opened(*"abc" * 300)]
    traffic = streaming(streams, picker_rebuilds=0, streams_kept_open=900)
    verdict = assert_even_streams(traffic)
    assert verdict.test == "exact binomial per backend, streams as the unit"


def test_each_look_has_a_smaller_share_of_alpha() -> None:
    assert assert_even_streams(streaming(opened(*"abc" * 300))).alpha == 1e-6 / 2
    later = streaming(opened(*"abcd" * 300, at_s=2.0), **scaled())
    assert assert_even_streams(later).alpha == 1e-6 / 6


def test_streams_that_did_not_move_are_told_with_what_to_do() -> None:
    with pytest.raises(AssertionError) as raised:
        assert_even_streams(streaming(opened(*"ab" * 6), **scaled()))
    told = str(raised.value)
    assert told.startswith(
        "headless: SKEWED: 2 of 4 pods have no open stream 8.5 s after the first of them became "
        "ready: 12 streams stay where they were opened before\n"
        "likely cause: a stream stays on its connection for as long as it is open, and none has "
        "ended since the 2 new pods came\n"
        "what to do: let client or server end streams after a time, and open them again "
        "(duration_s)\n"
    )
    assert (
        "-- open streams\n"
        "pod    +1.000 s  last  opened  failed\n"
        "pod-a         6     6       6       0\n"
        "pod-b         6     6       6       0\n"
        "pod-c         0     0       0       0\n"
        "pod-d         0     0       0       0\n"
    ) in told
    assert "pod    streams  share" in told


def test_streams_that_a_removed_pod_still_has_are_told() -> None:
    gone = [replace(each, removed_at_s=2.0) for each in pods(4)[3:]]
    events = (
        scale_event(1.0, "4 -> 3"),
        Event(at_s=2.0, kind=EventKind.ENDPOINT_REMOVED, backend="d"),
    )
    streams = opened(*"abcd" * 300)
    with pytest.raises(AssertionError) as raised:
        assert_even_streams(streaming(streams, backends=[*pods(3), *gone], events=events))
    assert str(raised.value).startswith(
        "headless: SKEWED: pod-d has 300 open streams 8.0 s after its endpoint was removed\n"
    )


def test_streams_are_counted_once_when_the_deadline_and_a_round_have_passed() -> None:
    def at(time_s: float, **more: Any) -> Traffic:
        # Each stream lasts 0.5 s, and all of a round end together: most are open in the middle.
        rounds = [
            stream
            for number in range(int(time_s / 0.5) + 1)
            for stream in opened(
                *("abcd" if number * 0.5 >= 4.0 else "ab") * 300,
                at_s=number * 0.5,
                ended_s=number * 0.5 + 0.4 if number * 0.5 + 0.4 <= time_s else None,
            )
        ]
        return streaming(rounds, stream_duration_s=0.4, streams_kept_open=1200, **scaled(), **more)

    live = Live(at)
    verdict = assert_even_streams(live)
    assert live.time_s == pytest.approx(1.5 + DEADLINE_S + 0.4 + 0.4, abs=0.01)
    assert verdict.counts == {"a": 300, "b": 300, "c": 300, "d": 300}
    with pytest.raises(InconclusiveError) as raised:
        assert_even_streams(at(4.9, until_s=4.9))
    assert str(raised.value) == (
        "INCONCLUSIVE: the traffic ends 3.4 s after the last change; streams are counted after "
        "3.5 s; let them stay open longer"
    )


def test_a_run_that_ended_before_streams_could_move() -> None:
    with pytest.raises(InconclusiveError) as raised:
        assert_even_streams(streaming(opened(*"ab" * 300), until_s=2.0, **scaled()))
    assert str(raised.value) == (
        "INCONCLUSIVE: the traffic ends 0.5 s after the last change; streams are counted after "
        "3.1 s; let them stay open longer"
    )


def test_too_few_streams_say_how_many_to_open() -> None:
    with pytest.raises(InconclusiveError) as raised:
        assert_even_streams(streaming(opened(*"abc" * 4), streams_kept_open=13))
    assert str(raised.value) == (
        "INCONCLUSIVE: 12 streams are too few: 601 are needed to find one backend at 1.5 times its "
        "share; these find none; 1 more waits for an answer: a server lets each connection have so "
        "many streams at once (MAX_CONCURRENT_STREAMS); open at least 601: grpclb.streams(601)"
    )


def test_live_streams_are_waited_for_until_all_were_answered() -> None:
    live = Live(
        lambda time_s: streaming(
            opened(*"abc" * (100 if time_s < 0.5 else 300)), streams_kept_open=900
        )
    )
    assert_even_streams(live)
    assert live.time_s == pytest.approx(0.5)


def test_streams_of_a_killed_pod_may_be_cut_and_no_others() -> None:
    kill = Event(at_s=2.0, kind=EventKind.KILL, backend="d")
    dead = Backend(uid="d", name="pod-d", ready_at_s=-1.0, removed_at_s=2.0)
    backends = [*pods(3), dead]
    cut = opened("d", ended_s=2.5, status=14)
    streams = [*opened(*"abc" * 300), *cut]
    verdict = assert_even_streams(streaming(streams, backends=backends, events=(kill,)))
    assert verdict.outcome is Outcome.EVEN
    allowing = streaming(streams, backends=backends, events=(kill,))
    allowing = replace(allowing, calls=replace(allowing.calls, allowed=frozenset({14})))
    assert assert_even_streams(allowing).outcome is Outcome.EVEN  # no failure, hence no excuse
    for wrong in (
        opened("d", ended_s=3.5, status=14),  # too late
        opened("a", ended_s=2.5, status=14),  # another pod's
        opened("d", ended_s=2.5, status=7),  # another status
    ):
        traffic = streaming([*opened(*"abc" * 300), *wrong], backends=backends, events=(kill,))
        with pytest.raises(AssertionError, match="1 of 1 calls failed"):
            assert_even_streams(traffic)


def test_streams_that_nothing_names_the_backend_of() -> None:
    with pytest.raises(InconclusiveError, match="3 streams did not say which pod answered"):
        assert_even_streams(streaming([*opened(*"abc" * 300), *opened("", "", "")]))


def test_a_spread_is_over_at_least_two_pods() -> None:
    with pytest.raises(ValueError, match="spread") as raised:
        assert_even_streams(streaming(opened("a"), backends=pods(1)))
    assert str(raised.value) == (
        "traffic: 1 pod is ready; a spread is over at least 2, so raise --grpclb-replicas"
    )


def test_through_connections_it_is_the_connections_that_count() -> None:
    with pytest.raises(AssertionError) as raised:
        assert_even_streams(streaming(opened(*"a" * 600), mechanism=Mechanism.CONNECTION))
    assert "pod-a was given 600 of 600 streams" in str(raised.value)
    few = [replace(each, channel="abc".index(each.backend)) for each in opened(*"abc" * 300)]
    told = (
        "INCONCLUSIVE: 3 connections are too few: 601 are needed to find one backend at 1.5 times "
        "its share; these find none; each channel makes one: use at least 601, e.g. "
        "grpclb.streams(601, channels=601)"
    )
    with pytest.raises(InconclusiveError) as inconclusive:
        assert_even_streams(streaming(few, mechanism=Mechanism.CONNECTION))
    assert str(inconclusive.value) == told


# --- the table


def test_without_a_change_the_table_has_moments_at_equal_distances() -> None:
    traffic = streaming([*opened("a", at_s=1.0), *opened("b", at_s=5.0, ended_s=7.0, status=14)])
    assert stream_table(traffic) == (
        "pod    +2.000 s  +4.000 s  +6.000 s  +8.000 s  last  opened  failed\n"
        "pod-a         1         1         1         1     1       1       0\n"
        "pod-b         0         0         1         0     0       1       1\n"
        "pod-c         0         0         0         0     0       0       0"
    )


def test_traffic_without_streams_has_no_table() -> None:
    assert stream_table(made_traffic("abc")) == ""
