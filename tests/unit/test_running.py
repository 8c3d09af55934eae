from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.errors import DriverError
from pytest_grpclb.model import Alarm, CallKind, CallTemplate, Mechanism
from pytest_grpclb.running import RunningTraffic, SkewWatch, end_when_skewed, stream_of

from .made_traffic import made_traffic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_grpclb.driver import DriverRun
    from pytest_grpclb.model import Traffic

THREE = ("a", "b", "c")


def watch(
    backends: Sequence[str] = THREE,
    *,
    mechanism: Mechanism = Mechanism.RANDOM,
    channels: int = 1,
    alpha: float = 1e-6,
) -> SkewWatch:
    return SkewWatch(backends, mechanism=mechanism, channels=channels, alpha=alpha)


def numbered(backends: Iterable[str | None], start: int = 0) -> list[tuple[int, str | None]]:
    return list(enumerate(backends, start))


class ScriptedRun:
    """A driver's run that reports the messages of a script, one each time it is waited for."""

    def __init__(self, *messages: list[tuple[int, str | None]], error: str = "") -> None:
        self.messages = list(messages)
        self.rows: list[tuple[int, str | None]] = []
        self.error = error
        self.stopped = False
        self.asked: list[int] = []

    @property
    def finished(self) -> bool:
        return not self.messages

    def answered(self, start: int) -> list[tuple[int, str | None]]:
        self.asked.append(start)
        return self.rows[start:]

    def wait_change(self, _timeout_s: float) -> None:
        if self.messages:
            self.rows += self.messages.pop(0)

    def wait_finished(self, _timeout_s: float | None = None) -> None:
        while self.messages:
            self.wait_change(0.0)
        self.check()

    def check(self) -> None:
        if self.finished and self.error:
            raise DriverError(self.error)

    def stop(self) -> None:
        self.stopped = True
        self.wait_finished()


def ended(run: ScriptedRun, watching: SkewWatch, *, unchanged: bool = True) -> Alarm:
    return end_when_skewed(cast("DriverRun", run), watching, unchanged=lambda: unchanged)


# --- the watch


def test_calls_that_all_go_to_one_backend_are_certain_to_be_skewed_after_eighteen() -> None:
    watching = watch()
    # 2 * 3**18 / (19 * 20) is the first above a million: see the tests of SkewAlarm.
    assert not watching.take(numbered("a" * 17))
    assert watching.take(numbered("a", 17))
    assert watching.alarm() == Alarm(alpha=1e-6, raised_after=18)


def test_what_comes_after_the_alarm_does_not_take_it_back() -> None:
    watching = watch()
    assert watching.take(numbered("a" * 18 + "bc" * 200))
    assert watching.take(numbered("bc" * 200, 418))
    assert watching.alarm().raised_after == 18


def test_a_call_counts_when_all_that_were_sent_before_it_have_ended() -> None:
    watching = watch()
    rows = numbered("b" + "a" * 40)
    assert not watching.take(rows[1:])  # the slow pod's call, sent first, has not ended
    assert watching.take(rows[:1])
    assert watching.alarm().raised_after is not None


def test_a_slow_backend_that_gets_its_share_raises_no_alarm() -> None:
    watching, held = watch(alpha=0.01), []
    for sequence in range(900):
        backend = "abc"[sequence % 3]
        if backend == "c":
            held.append((sequence, backend))
        else:
            assert not watching.take([(sequence, backend)])
    assert not watching.take(held)


def test_failed_calls_and_strangers_are_no_evidence() -> None:
    watching = watch()
    assert not watching.take(numbered([None] * 100 + ["x"] * 100))
    assert watching.take(numbered("a" * 18, 200))
    assert watching.alarm().raised_after == 18


def test_channels_that_go_round_in_step_raise_no_alarm() -> None:
    # Fifty channels that all start at the same pod: each pod is called fifty times in a row.
    in_step = ["a"] * 50 + ["b"] * 50 + ["c"] * 50
    assert watch(channels=50).take(numbered(in_step * 4))
    round_robin = watch(mechanism=Mechanism.ROUND_ROBIN, channels=50)
    assert not round_robin.take(numbered(in_step * 4))
    assert round_robin.take(numbered(["a"] * 100, 600))


def test_no_order_of_ends_changes_what_is_certain_when() -> None:
    rows = numbered(random.Random(3).choices("abc", weights=[6, 1, 1], k=300))
    straight = watch()
    straight.take(rows)
    assert straight.alarm().raised_after is not None

    @given(st.randoms(use_true_random=False), st.integers(1, 40))
    def shuffled(chance: random.Random, size: int) -> None:
        watching, ends = watch(), list(rows)
        chance.shuffle(ends)
        for start in range(0, len(ends), size):
            watching.take(ends[start : start + size])
        assert watching.alarm() == straight.alarm()

    shuffled()


def test_one_backend_cannot_be_watched() -> None:
    with pytest.raises(ValueError, match=r"^backends: 1; a spread is over at least 2$"):
        watch(["a"])


# --- ending a run


def test_a_run_ends_as_soon_as_its_skew_is_certain() -> None:
    run = ScriptedRun(numbered("a" * 10), numbered("a" * 10, 10), numbered("a" * 8, 20))
    assert ended(run, watch()) == Alarm(alpha=1e-6, raised_after=18)
    assert run.stopped
    assert len(run.rows) == 28  # what was under way is waited for


def test_an_even_run_sends_all_its_calls() -> None:
    run = ScriptedRun(numbered("abc" * 100), numbered("abc" * 100, 300))
    assert ended(run, watch()) == Alarm(alpha=1e-6)
    assert not run.stopped
    assert len(run.rows) == 600
    assert run.asked == [0, 0, 300]  # only what is new


def test_a_skew_in_the_last_report_is_certain_all_the_same() -> None:
    run = ScriptedRun(numbered("a" * 30))
    assert ended(run, watch()).raised_after == 18


def test_pods_that_came_or_went_end_the_watch_but_not_the_run() -> None:
    run = ScriptedRun(numbered("a" * 30), numbered("a" * 30, 30))
    assert ended(run, watch(), unchanged=False) == Alarm(alpha=1e-6)
    assert not run.stopped
    assert len(run.rows) == 60


def test_a_run_that_breaks_off_raises() -> None:
    run = ScriptedRun(numbered("abc"), error="UNAVAILABLE: Socket closed")
    with pytest.raises(DriverError, match=r"^UNAVAILABLE: Socket closed$"):
        ended(run, watch())


# --- traffic in the background


def running(run: ScriptedRun, traffic: Traffic) -> RunningTraffic:
    def freeze(_: Any, ended_at_s: float | None) -> Traffic:
        return traffic

    return RunningTraffic(cast("DriverRun", run), freeze)


def test_traffic_that_broke_off_raises_wherever_it_is_looked_at() -> None:
    run = ScriptedRun(numbered("abc"), error="UNAVAILABLE: Socket closed")
    looked_at = running(run, made_traffic("abc"))
    assert looked_at.snapshot() == made_traffic("abc")
    for look in (lambda: looked_at.wait(1.0), looked_at.snapshot, looked_at.stop):
        with pytest.raises(DriverError, match=r"^UNAVAILABLE: Socket closed$"):
            look()


def test_traffic_that_has_ended_stays_as_it_was_whatever_pods_do_afterwards() -> None:
    moments: list[float | None] = []

    def freeze(_: Any, ended_at_s: float | None) -> Traffic:
        moments.append(ended_at_s)
        return made_traffic("abc" * len(moments), ended_at_s=ended_at_s)

    traffic = RunningTraffic(cast("DriverRun", ScriptedRun(numbered("abc"))), freeze)
    assert traffic.snapshot().ended_at_s is None
    ended = traffic.stop()
    assert ended.ended_at_s is not None
    assert traffic.stop() is traffic.snapshot() is ended
    assert traffic.events == ended.events
    assert len(moments) == 2


# --- streams

CHAT = CallTemplate(method="/shop.Shop/Chat", kind=CallKind.BIDIRECTIONAL_STREAMING, duration_s=5.0)


def test_an_end_that_is_given_is_that_of_the_stream() -> None:
    assert stream_of(CHAT, duration_s=None, messages=None) == CHAT
    assert stream_of(CHAT, duration_s=1, messages=2) == replace(CHAT, duration_s=1, messages=2)
    short = replace(CHAT, messages=1)
    assert stream_of(CHAT, duration_s=None, messages=1) == short
    assert stream_of(short, duration_s=None, messages=None) == short


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ({"duration_s": 0}, "duration_s must be above 0, got 0; None: without an end"),
        ({"duration_s": -1.5}, "duration_s must be above 0, got -1.5; None: without an end"),
        ({"duration_s": math.nan}, "duration_s must be above 0, got nan; None: without an end"),
        ({"duration_s": math.inf}, "duration_s must be above 0, got inf; None: without an end"),
        ({"messages": 0}, "messages must be 1 or more, got 0; None: without an end"),
    ],
)
def test_an_end_that_is_none(end: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="None") as raised:
        stream_of(CHAT, **{"duration_s": None, "messages": None, **end})
    assert str(raised.value) == message


def test_a_unary_call_is_no_stream() -> None:
    with pytest.raises(ValueError, match="unary") as raised:
        stream_of(CallTemplate(method="/shop.Shop/Sell"), duration_s=None, messages=None)
    assert str(raised.value) == (
        "call: '/shop.Shop/Sell' is unary; a stream has kind=CallKind.SERVER_STREAMING or "
        "kind=CallKind.BIDIRECTIONAL_STREAMING"
    )
