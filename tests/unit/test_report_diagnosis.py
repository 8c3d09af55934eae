"""The likely cause that a failure names, and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_grpclb.model import Event, EventKind, Mechanism, Outcome, Traffic
from pytest_grpclb.report import diagnose, short_lived

from .made_traffic import TIMERS, Rows, made_traffic, pods
from .test_report import ALL_ON_ONE, connected, verdict_of

# --- the diagnosis


def standing(**more: Any) -> Traffic:
    """Round robin that sent all calls to pod-a, of three pods that stood throughout."""
    settings: dict[str, Any] = {"mechanism": Mechanism.ROUND_ROBIN}
    return made_traffic(["a"] * 584, **(settings | more))


def with_newcomer(**timers: Any) -> Traffic:
    """Pod c became ready 0.1 s after counting had begun, and gets none of the calls of 0.584 s."""
    late = replace(pods(3)[2], ready_at_s=0.1)
    rows = "ab" * 292
    return made_traffic(
        rows,
        backends=(*pods(2), late),
        mechanism=Mechanism.ROUND_ROBIN,
        timers=replace(TIMERS, **timers),
    )


NEWCOMER_IDLE = verdict_of({"a": 292, "b": 292, "c": 0})


def test_even_traffic_has_no_diagnosis() -> None:
    even = verdict_of({"a": 1, "b": 1, "c": 1}, Outcome.EVEN)
    assert diagnose(made_traffic("abc"), even) == ""


def test_the_diagnosis_of_calls_that_nobody_signed() -> None:
    rows = Rows()
    rows.unnamed()
    assert diagnose(made_traffic(rows), ALL_ON_ONE) == (
        "1 answered call did not say which pod answered; let the service send its pod's name "
        "(HOSTNAME) in a response header (--grpclb-backend-key) or a field of its reply "
        "(--grpclb-backend-field)"
    )


def test_the_diagnosis_of_too_few_calls() -> None:
    few = verdict_of({"a": 1, "b": 1, "c": 1}, Outcome.INCONCLUSIVE)
    assert diagnose(made_traffic("abc"), few) == "the calls are too few; send at least 584"


def test_the_diagnosis_of_a_stranger() -> None:
    assert diagnose(made_traffic("ax"), verdict_of({"a": 1, "b": 0, "x": 1})) == (
        "calls reach 'x', which is no pod of this deployment; compare the selector of the Service "
        "that is dialled with the labels of the deployment's pods"
    )


def test_the_diagnosis_of_names_that_pods_have_one_after_the_other() -> None:
    rows = Rows()
    rows.answer("pod-b", at_s=0.0)
    assert diagnose(made_traffic(rows), verdict_of({"a": 1, "b": 0, "pod-b": 1})) == (
        "pods one after the other were called 'pod-b'; let the service name them by their UIDs "
        "(metadata.uid by a fieldRef)"
    )


def test_the_diagnosis_of_a_removed_pod_that_is_still_called() -> None:
    gone = replace(pods(3)[2], removed_at_s=0.0)
    traffic = made_traffic("abc", backends=(*pods(2), gone))
    assert diagnose(traffic, verdict_of({"a": 1, "b": 1, "c": 1})) == (
        "connections to pod-c outlive its endpoint; let the server close them when it gets SIGTERM "
        "(a graceful stop sends GOAWAY), or set a max connection age"
    )


def test_new_pods_that_idle_are_not_laid_to_a_pod_that_went_when_they_came() -> None:
    """Scaled down and up at once: calls until its connection closed are as they should be."""
    traffic = with_newcomer(connection_age_s=None)
    gone = replace(pods(4)[3], removed_at_s=0.02)
    traffic = replace(traffic, backends=(*traffic.backends, gone))
    counts = {"a": 292, "b": 282, "c": 0, "d": 10}
    assert diagnose(traffic, verdict_of(counts)).startswith("without a max connection age ")


def test_the_diagnosis_of_channels_that_share_a_connection() -> None:
    traffic = made_traffic(
        "aaa",
        mechanism=Mechanism.CONNECTION,
        strategy="ssl-passthrough",
        channels=4,
        connections=connected("10.1.0.9:50051"),
    )
    assert diagnose(traffic, ALL_ON_ONE) == (
        "1 connection of 4 channels carried 100 % of 584 calls: ssl-passthrough balances "
        "connections, not calls; use a headless Service with round_robin, or "
        "grpc.use_local_subchannel_pool=1 for a connection per channel"
    )


def test_the_diagnosis_of_a_name_with_one_address() -> None:
    assert diagnose(standing(resolved=("10.1.0.9:50051",)), ALL_ON_ONE) == (
        "the client knows 1 address, 10.1.0.9:50051, for 3 ready pods; dial the name of a "
        "headless Service (clusterIP: None) as dns:///NAME:PORT"
    )


def test_the_diagnosis_of_pick_first() -> None:
    traffic = standing(
        settings={"service config": "(none: pick_first)"}, resolved=("10.0.0.1:1", "10.0.0.2:1")
    )
    assert diagnose(traffic, ALL_ON_ONE) == (
        "the client sends everything over the first connection that stands (pick_first); set the "
        'service config {"loadBalancingConfig":[{"round_robin":{}}]}'
    )


def test_the_diagnosis_of_a_missing_connection_age() -> None:
    assert diagnose(with_newcomer(connection_age_s=None), NEWCOMER_IDLE) == (
        "without a max connection age no connection ends, so the client never asks DNS for the "
        "1 new pod; set one on the servers (max_connection_age_s; grpclb_connection_age_env says "
        "how yours is told)"
    )


def closings(number: int) -> tuple[Event, ...]:
    closed = Event(at_s=0.3, kind=EventKind.CONNECTION_CLOSED, address="10.0.0.1:50051")
    return (closed,) * number


def test_the_diagnosis_of_an_age_in_another_unit() -> None:
    """At 0.3 s, each of 3 pods may end 1 + 0.584 / 0.3 connections: 8.84 together."""
    aged = with_newcomer(connection_age_s=0.3)
    assert diagnose(replace(aged, events=closings(27)), NEWCOMER_IDLE) == (
        "27 connections ended in 0.58 s, though the service was told a max connection age of "
        "0.3 s; see in which unit it reads what it is told (grpclb_connection_age_env=NAME tells "
        "seconds, NAME={ms} milliseconds)"
    )
    for other in (
        aged,
        replace(aged, events=closings(26)),
        replace(aged, events=closings(27), channels=2),
        replace(with_newcomer(connection_age_s=None), events=closings(27)),
    ):
        assert short_lived(other) == ""


def test_the_diagnosis_of_an_age_that_the_service_does_not_take() -> None:
    aged = replace(
        with_newcomer(connection_age_s=0.3), connections=connected("10.0.0.1", "10.0.0.2")
    )
    assert diagnose(aged, NEWCOMER_IDLE) == (
        "no connection ended in 0.6 s, though the service was told a max connection age of 0.3 s; "
        "see whether it reads what it is told, and in that unit (grpclb_connection_age_env says "
        "how it is told)"
    )
    closed = Event(at_s=0.3, kind=EventKind.CONNECTION_CLOSED, address="10.0.0.1:50051")
    for other in (
        replace(aged, events=(closed,)),
        with_newcomer(connection_age_s=0.3),  # nobody knows of connections
        replace(aged, timers=replace(TIMERS, connection_age_s=0.5)),  # one may end in 0.6 s
    ):
        assert "no connection ended" not in diagnose(other, NEWCOMER_IDLE)


def test_the_advice_for_a_cluster_ip_is_to_leave_it_out() -> None:
    rows = Rows()
    rows.unnamed()
    told = diagnose(made_traffic(rows, strategy="clusterip"), ALL_ON_ONE)
    assert told.endswith(
        "; clusterip is the baseline, where calls are not spread anyway: leave it out with "
        '@pytest.mark.grpclb_skip("clusterip")'
    )


def test_the_diagnosis_of_a_client_that_rarely_asks_dns() -> None:
    assert diagnose(with_newcomer(min_resolution_interval_s=30.0), NEWCOMER_IDLE) == (
        "the client asks DNS at most every 30 s, and did not for the 1 new pod; lower "
        "grpc.dns_min_time_between_resolutions_ms"
    )


def test_the_diagnosis_of_an_old_dns_answer() -> None:
    assert diagnose(with_newcomer(dns_ttl_s=30.0), NEWCOMER_IDLE) == (
        "DNS may answer for 30 s as it did before the 1 new pod; lower the TTL of the cluster's DNS"
    )


@pytest.mark.parametrize("state", ["TRANSIENT_FAILURE", "CONNECTING"])
def test_the_diagnosis_of_a_pod_that_cannot_be_connected_to(state: str) -> None:
    traffic = standing(
        connections=(
            *connected("10.0.0.1:1", "10.0.0.3:1"),
            *connected("10.0.0.2:1", state=state),
        )
    )
    assert diagnose(traffic, ALL_ON_ONE) == (
        f"the client's connection to pod-b at 10.0.0.2 is {state}; check the port it listens on, "
        "its readiness probe and network policies"
    )


def test_the_diagnosis_of_a_pod_that_dns_does_not_list() -> None:
    traffic = standing(connections=connected("10.0.0.1:1", "10.0.0.2:1"))
    assert diagnose(traffic, ALL_ON_ONE) == (
        "the client does not know 10.0.0.3, the address of pod-c; check that the Service selects "
        "that pod and that DNS lists it"
    )


def test_a_client_behind_a_proxy_is_not_blamed_for_unknown_addresses() -> None:
    traffic = made_traffic(["a"] * 584, connections=connected("127.0.0.1:10000"))
    nothing = verdict_of({"a": 0, "b": 0, "c": 0}, calls=584)
    assert diagnose(traffic, nothing).startswith("no setting that is known here explains it; ")


def test_the_diagnosis_of_an_incomplete_warm_up() -> None:
    some = verdict_of({"a": 300, "b": 200, "c": 84})
    assert diagnose(standing(channels=2, warm_up_seen=(3, 2)), some) == (
        "channel 1 had reached 2 of 3 pods when counting began; check that every pod can be "
        "connected to from the driver's pod"
    )


def test_the_diagnosis_of_rebuilt_pickers() -> None:
    some = verdict_of({"a": 300, "b": 200, "c": 84})
    assert diagnose(standing(picker_rebuilds=12, warm_up_seen=(3,)), some) == (
        "the client's picker was rebuilt 12 times while calls were counted, and each one starts "
        "its round anew; measure evenness with max_connection_age_s=None"
    )


# --- behind a proxy, whose client has one address and the default policy


def test_the_diagnosis_of_a_proxy_that_knows_one_pod() -> None:
    client = {"settings": {"service config": "(none: pick_first)"}, "resolved": ("10.9.9.9:1",)}
    assert diagnose(standing(proxied=True, **client), ALL_ON_ONE) == (
        "the proxy sent every call to 1 of 3 ready pods; compare its own list of hosts, which is "
        "among the artifacts (--grpclb-artifacts DIR), with the Service's endpoints"
    )


def test_the_diagnosis_of_a_proxy_that_does_not_look_again() -> None:
    traffic = replace(with_newcomer(push_s=1.0), proxied=True)
    assert diagnose(traffic, NEWCOMER_IDLE) == (
        "the proxy did not take up the 1 new pod; compare its own list of hosts, which is among "
        "the artifacts (--grpclb-artifacts DIR), with the Service's endpoints"
    )


def test_the_diagnosis_of_a_proxy_whose_hosts_changed() -> None:
    some = verdict_of({"a": 300, "b": 200, "c": 84})
    assert diagnose(
        standing(picker_rebuilds=1, proxied=True, pickers=2, warm_up_seen=(3,)), some
    ) == (
        "the proxy's list of hosts changed, or a call was sent again, 1 time while calls were "
        "counted; measure evenness while no pod comes or goes"
    )


def test_a_skew_that_nothing_explains_is_not_explained() -> None:
    some = verdict_of({"a": 300, "b": 200, "c": 84})
    assert diagnose(standing(picker_rebuilds=0, warm_up_seen=(3,)), some) == (
        "no setting that is known here explains it; compare the log of pod-a with those of the "
        "others"
    )
