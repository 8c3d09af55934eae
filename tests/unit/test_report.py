from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_grpclb.model import Connection, Event, EventKind, Mechanism, Outcome, Verdict
from pytest_grpclb.report import (
    bars,
    client_view,
    diagnose,
    failed_calls,
    format_failure,
    format_summary,
    format_verdict_line,
    pod_table,
    summary_row,
    timeline,
)

from .made_traffic import Rows, made_traffic, pods


def verdict_of(counts: dict[str, int], outcome: Outcome = Outcome.SKEWED, **more: Any) -> Verdict:
    known: dict[str, Any] = {
        "outcome": outcome,
        "counts": counts,
        "calls": sum(counts.values()),
        "backends": len(counts),
        "alpha": 1e-6,
        "power": 0.999,
        "detectable_skew": 1.4989,
        "needed_calls": 584,
        "test": "exact binomial per backend, calls as the unit",
        "reason": "pod-a answered 584 of 584 calls; its fair share allows 138 to 254",
    }
    return Verdict(**known | more)


def connected(*addresses: str, state: str = "READY", opened: int = 1) -> tuple[Connection, ...]:
    return tuple(
        Connection(channel=0, address=each, state=state, calls_started=1, connections=opened)
        for each in addresses
    )


ALL_ON_ONE = verdict_of({"a": 584, "b": 0, "c": 0})


# --- one line


def test_a_verdict_in_one_line() -> None:
    assert format_verdict_line(ALL_ON_ONE) == (
        "SKEWED  N=584 K=3  max/mean 3.00  min/mean 0.00  Jain 0.33  alpha 1e-06  "
        "power 0.999 at skew 1.50"
    )


def test_a_verdict_that_detects_nothing_says_so() -> None:
    nothing = verdict_of({"a": 0, "b": 0}, Outcome.INCONCLUSIVE, detectable_skew=float("inf"))
    assert format_verdict_line(nothing) == (
        "INCONCLUSIVE  N=0 K=2  max/mean 0.00  min/mean 0.00  Jain 0.00  alpha 1e-06  "
        "power 0.999 at no skew"
    )


# --- the whole story


def test_the_failure_of_a_cluster_ip_in_full() -> None:
    traffic = made_traffic(
        ["a"] * 584,
        strategy="clusterip",
        mechanism=Mechanism.CONNECTION,
        connections=connected("10.1.0.9:50051"),
        resolved=("10.1.0.9:50051",),
        warm_up_seen=(1,),
        picker_rebuilds=0,
        settings={"target": "dns:///greeter.test:50051", "max connection age": "none"},
    )
    assert format_failure(traffic, ALL_ON_ONE) == (
        "clusterip: SKEWED: pod-a answered 584 of 584 calls;\n"
        "  its fair share allows 138 to 254\n"
        "likely cause: 1 connection carried 100 % of 584 calls: a ClusterIP balances connections, "
        "not calls\n"
        "what to do: use a headless Service with round_robin\n"
        "\n"
        "SKEWED  N=584 K=3  max/mean 3.00  min/mean 0.00  Jain 0.33  alpha 1e-06  "
        "power 0.999 at skew 1.50\n"
        "test: exact binomial per backend, calls as the unit\n"
        "\n"
        "-- pods\n"
        "pod    calls   share  x fair  conns  p50 ms  p99 ms  first answer     ready\n"
        "pod-a    584  100.0%    3.00      -     1.0     1.0      +0.001 s  -1.000 s\n"
        "pod-b      0    0.0%    0.00      -       -       -         never  -1.000 s\n"
        "pod-c      0    0.0%    0.00      -       -       -         never  -1.000 s\n"
        "\n"
        "-- client\n"
        "target              dns:///greeter.test:50051\n"
        "max connection age  none\n"
        "channels            1; backends that warm-up saw on each: 1\n"
        "subchannels         1 READY; connections opened: 1\n"
        "resolved            10.1.0.9:50051\n"
        "picker rebuilds     0\n"
        "\n"
        "-- timeline, from the first counted call\n"
        "+0.000 s  calls are counted from here\n"
        "+0.001 s  first answer of pod-a\n"
        "+0.584 s  traffic ends"
    )


def test_no_line_of_a_report_ends_in_spaces() -> None:
    traffic = made_traffic(["a"] * 20, settings={"service config": ""})
    for line in format_failure(traffic, ALL_ON_ONE).splitlines():
        assert line == line.rstrip()


# --- pods


def test_the_pod_table_shows_strangers_removed_pods_and_connections() -> None:
    gone = replace(pods(2)[1], removed_at_s=12.5, ready_at_s=None)
    v6 = replace(pods(3)[2], address="fd00::7")
    traffic = made_traffic(
        ["a", "x"],
        backends=(pods(1)[0], gone, v6),
        connections=(
            *connected("10.0.0.1:50051", opened=3),
            *connected("10.0.0.2:50051"),
            *connected("[fd00::7]:50051", opened=2),
        ),
    )
    table = pod_table(traffic, verdict_of({"a": 1, "b": 0, "c": 0, "x": 3}, backends=3))
    assert table == (
        "pod           calls  share  x fair  conns  p50 ms  p99 ms  f"
        "irst answer     ready    removed\n"
        "pod-a             1  25.0%    0.75      3     1.0     1.0   "
        "   +0.001 s  -1.000 s          -\n"
        "pod-b             0   0.0%    0.00      1       -       -   "
        "      never         -  +12.500 s\n"
        "pod-c             0   0.0%    0.00      2       -       -   "
        "      never  -1.000 s          -\n"
        "x (stranger)      3  75.0%    2.25      -     1.0     1.0   "
        "   +0.002 s         -          -"
    )


def slow_pod(latency_s: float, *, calls: int = 100) -> Rows:
    """Return calls of three pods, of which pod-c takes *latency_s* and the others 2 ms."""
    rows = Rows()
    for call in range(calls):
        for pod in "abc":
            taken_s = latency_s if pod == "c" else 0.002
            rows.answer(pod, at_s=call / 10, latency_s=taken_s)
    return rows


def test_a_slow_pod_is_named_below_the_table() -> None:
    traffic = made_traffic(slow_pod(0.05))
    lines = pod_table(traffic, verdict_of({"a": 100, "b": 100, "c": 100})).splitlines()
    assert [line.split()[5:7] for line in lines[1:4]] == [
        ["2.0", "2.0"],
        ["2.0", "2.0"],
        ["50.0", "50.0"],
    ]
    assert lines[4:] == [
        "slow: half of the calls to pod-c took 50.0 ms or more, 25.0 times the median of the other "
        "pods"
    ]


def test_a_slow_pod_that_gets_less_is_the_likely_cause() -> None:
    fewer = verdict_of({"a": 250, "b": 234, "c": 100})
    assert diagnose(made_traffic(slow_pod(0.05)), fewer) == (
        "half of the calls to pod-c took 50.0 ms or more, 25.0 times the median of the other pods, "
        "and what goes by load or latency calls it less; look at its log, its limits and its node"
    )


@pytest.mark.parametrize(
    ("latency_s", "calls"),
    [(0.0039, 100), (0.05, 15)],  # not twice as long; too few calls to be certain
)
def test_a_pod_that_is_hardly_slower_is_not_named(latency_s: float, calls: int) -> None:
    traffic = made_traffic(slow_pod(latency_s, calls=calls))
    assert len(pod_table(traffic, verdict_of({"a": 1, "b": 1, "c": 1})).splitlines()) == 4


def test_allowed_statuses_have_columns_of_their_own() -> None:
    traffic = made_traffic("abab")
    calls = replace(traffic.calls, status=[0, 5, 5, 5], allowed=frozenset({5}))
    table = pod_table(replace(traffic, calls=calls), verdict_of({"a": 2, "b": 2}))
    assert table == (
        "pod    calls  share  x fair  conns  p50 ms  p99 ms  NOT_FOUND  first answer     ready\n"
        "pod-a      2  50.0%    1.00      -     1.0     1.0          1      +0.001 s  -1.000 s\n"
        "pod-b      2  50.0%    1.00      -     1.0     1.0          2      +0.002 s  -1.000 s"
    )
    assert failed_calls(replace(traffic, calls=calls)) == ""


def test_how_it_is_known_who_answered_is_told() -> None:
    told = client_view(made_traffic("abc", attribution="peer of the connection"))
    assert "who answered     by peer of the connection" in told.splitlines()


def test_the_pod_table_measures_weighted_shares_by_their_weights() -> None:
    weighted = verdict_of({"a": 70, "b": 30, "c": 0}, fair_shares={"a": 0.7, "b": 0.3, "c": 0.0})
    columns = [line.split()[3] for line in pod_table(made_traffic("abc"), weighted).splitlines()]
    assert columns == ["x", "1.00", "1.00", "-"]


# --- the client


def test_the_client_s_view_abbreviates_what_is_long() -> None:
    traffic = made_traffic(
        "abc",
        channels=2,
        warm_up_seen=(1, 3),
        connections=(
            *connected("10.0.0.1:1", "10.0.0.2:1", opened=2),
            *connected("10.0.0.3:1", state="CONNECTING", opened=0),
        ),
        resolved=tuple(f"10.0.0.{host}:1" for host in range(1, 7)),
        picker_rebuilds=None,
    )
    assert client_view(traffic) == (
        "channels         2; backends that warm-up saw on each: 1 to 3\n"
        "subchannels      1 CONNECTING, 2 READY; connections opened: 4\n"
        "resolved         10.0.0.1:1, 10.0.0.2:1, 10.0.0.3:1, 10.0.0.4:1 and 2 more\n"
        "picker rebuilds  unknown"
    )


# --- the timeline


def test_the_timeline_is_in_order_and_names_pods() -> None:
    events = (
        Event(at_s=100.5, kind=EventKind.SCALE, detail="2 -> 3"),
        Event(at_s=111.25, kind=EventKind.ENDPOINT_READY, backend="c"),
        Event(at_s=99.0, kind=EventKind.RESOLVED, detail="10.0.0.1:1"),
        Event(at_s=120.0, kind=EventKind.ENDPOINT_REMOVED, backend="gone"),
    )
    rows = Rows()
    rows.answer("a", at_s=100.1)
    rows.answer("c", at_s=112.0)
    traffic = made_traffic(rows, events=events, started_at_s=100.0, ended_at_s=None)
    assert timeline(traffic) == (
        " -1.000 s  resolved 10.0.0.1:1\n"
        " +0.000 s  calls are counted from here\n"
        " +0.101 s  first answer of pod-a\n"
        " +0.500 s  scale 2 -> 3\n"
        "+11.250 s  endpoint ready pod-c\n"
        "+12.001 s  first answer of pod-c\n"
        "+20.000 s  endpoint removed gone"
    )


def test_a_long_timeline_leaves_out_its_middle() -> None:
    events = tuple(
        Event(at_s=index, kind=EventKind.ENDPOINT_READY, backend=str(index))
        for index in range(1, 101)
    )
    lines = timeline(made_traffic(Rows(), events=events, ended_at_s=200.0)).splitlines()
    assert len(lines) == 25
    assert lines[11:14] == [
        " +11.000 s  endpoint ready 11",
        "     ... 78 more ...",
        " +90.000 s  endpoint ready 90",
    ]
    assert lines[-1] == "+200.000 s  traffic ends"


def client_event(kind: EventKind, at_s: float, backend: str, *, channel: int = 0) -> Event:
    address = f"10.0.0.{backend}:1"
    return Event(at_s=at_s, kind=kind, backend=backend, channel=channel, address=address)


def test_the_timeline_tells_connections_seen_at_one_moment_in_one_line() -> None:
    opened, closed = EventKind.CONNECTION_OPENED, EventKind.CONNECTION_CLOSED
    events = (
        *[client_event(closed, 1.5, "c", channel=channel) for channel in (0, 1)],
        *[client_event(opened, 2.0, backend) for backend in "abcdef"],
        client_event(opened, 2.5, ""),
        Event(at_s=3.0, kind=EventKind.RESOLVED, channel=1, detail="6 known, 1 new, 0 gone"),
    )
    traffic = made_traffic(Rows(), events=events, started_at_s=1.0, channels=2, ended_at_s=None)
    assert timeline(traffic) == (
        "+0.000 s  calls are counted from here\n"
        "+0.500 s  connection closed pod-c x 2\n"
        "+1.000 s  connection opened pod-a, pod-b, pod-c and 3 more\n"
        "+1.500 s  connection opened 10.0.0.:1\n"
        "+2.000 s  resolved 6 known, 1 new, 0 gone (channel 1)"
    )


def test_a_long_timeline_leaves_out_connections_first() -> None:
    opened, closed = EventKind.CONNECTION_OPENED, EventKind.CONNECTION_CLOSED
    connections = [
        client_event(kind, 2.0 + index, "a")
        for index in range(20)
        for kind in (closed, opened, opened)
    ]
    events = (Event(at_s=1.0, kind=EventKind.SCALE, detail="3 -> 4"), *connections)
    lines = timeline(made_traffic(Rows(), events=events, ended_at_s=99.0)).splitlines()
    assert lines == [
        " +0.000 s  calls are counted from here",
        " +1.000 s  scale 3 -> 4",
        "+99.000 s  traffic ends",
        "left out: connection opened x 40, connection closed x 20",
    ]


# --- failed calls


def test_failed_calls_that_name_a_backend_are_counted_by_it() -> None:
    traffic = made_traffic("aab")
    failed = replace(traffic, calls=replace(traffic.calls, status=(99, 99, 13)))
    assert failed_calls(failed) == (
        "status 99 x 2, +0.001 s to +0.002 s\n"
        "  from pod-a x 2\n"
        "INTERNAL x 1, +0.003 s\n"
        "  from pod-b x 1"
    )
    assert failed_calls(traffic) == ""
    assert failed_calls(failed, without={0, 1}).startswith("INTERNAL x 1, ")


# --- the summary


def test_a_bar_of_half_height_is_a_fair_share() -> None:
    assert bars([1 / 3, 1 / 3, 1 / 3]) == "▄▄▄"
    assert bars([1.0, 0.0]) == "█_"
    # 1.5, 1, 0.5 and 0.01 times the fair share of a quarter: 6, 4, 2 and (not nothing) 1 of 8.
    assert bars([0.375, 0.25, 0.125, 0.0025]) == "▆▄▂▁"
    assert bars([1.0, 0.0], ascii_only=True) == "#_"
    assert bars([0.5, 0.5], ascii_only=True) == "--"
    assert bars([]) == ""


def test_bars_of_many_pods_are_cut() -> None:
    assert bars([1 / 40] * 40, ascii_only=True) == "-" * 32 + "+8"


def test_a_summary_row_is_a_line_of_json() -> None:
    row = summary_row("headless", "test_it[headless]", ALL_ON_ONE)
    assert "\n" not in row
    assert json.loads(row) == {
        "strategy": "headless",
        "test": "test_it[headless]",
        "verdict": "SKEWED",
        "calls": 584,
        "backends": 3,
        "alpha": 1e-6,
        "max_over_mean": 3.0,
        "shares": [1.0, 0.0, 0.0],
    }


def test_the_summary_has_a_row_for_each_test() -> None:
    even = verdict_of({"a": 31, "b": 30, "c": 29}, Outcome.EVEN)
    tests = [
        [summary_row("headless", "test_it[headless]", even)],
        [],  # a test without a verdict has none
        [summary_row("clusterip", "test_it[clusterip]", ALL_ON_ONE)],
    ]
    assert format_summary(tests, ascii_only=True) == (
        "strategy   verdict    N  K  max/mean  pods  test\n"
        "headless   EVEN      90  3      1.03  ---   test_it[headless]\n"
        "clusterip  SKEWED   584  3      3.00  #__   test_it[clusterip]\n"
        "pods: a bar of half height is a fair share\n"
    )


def test_of_several_verdicts_of_a_test_the_summary_shows_the_worst() -> None:
    even = verdict_of({"a": 31, "b": 30, "c": 29}, Outcome.EVEN)
    less_even = verdict_of({"a": 45, "b": 45}, Outcome.EVEN)
    few = verdict_of({"a": 2, "b": 0}, Outcome.INCONCLUSIVE)
    tests = [
        [summary_row("headless", "test_it", each) for each in (even, ALL_ON_ONE, few, even)],
        [summary_row("lookaside", "test_it", each) for each in (less_even, even)],
        [summary_row("clusterip", "test_it", few)],
    ]
    assert format_summary(tests, ascii_only=True) == (
        "strategy   verdict                           N  K  max/mean  pods  test\n"
        "headless   SKEWED, INCONCLUSIVE, EVEN x 2  584  3      3.00  #__   test_it\n"
        "lookaside  EVEN x 2                         90  3      1.03  ---   test_it\n"
        "clusterip  INCONCLUSIVE                      2  2      2.00  #_    test_it\n"
        "pods: a bar of half height is a fair share; of several verdicts the worst is shown\n"
    )
