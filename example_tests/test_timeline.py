"""What happens to pods and connections while traffic runs is kept beside the calls."""

from __future__ import annotations

import pytest

from pytest_grpclb import EventKind, Grpclb, assert_rebalanced
from pytest_grpclb.report import timeline


@pytest.mark.grpclb_only("headless")
@pytest.mark.grpclb(replicas=2, max_connection_age_s=1)
def test_the_timeline_tells_how_clients_came_to_use_a_new_pod(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=400) as traffic:
        grpclb.scale(3)
        assert_rebalanced(traffic)
    ended = traffic.stop()
    new = ended.backends[-1].uid  # in order of readiness
    told = [event for event in ended.events if event.backend in {"", new}]
    first = {event.kind: event.at_s for event in reversed(told)}
    scaled_at_s = first[EventKind.SCALE]
    # The client may learn of the pod before the test does.
    assert scaled_at_s < first[EventKind.ENDPOINT_READY], timeline(ended)
    assert scaled_at_s < first[EventKind.RESOLVED], timeline(ended)
    assert first[EventKind.RESOLVED] <= first[EventKind.CONNECTION_OPENED], timeline(ended)


@pytest.mark.grpclb_only("clusterip")
@pytest.mark.grpclb(max_connection_age_s=None)
def test_a_killed_pod_takes_the_connections_of_its_clients_with_it(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=400) as traffic:
        for backend in grpclb.backends():
            grpclb.kill(backend.name)  # one of them is the client's
    kinds = [event.kind for event in traffic.stop().events]
    assert kinds.count(EventKind.KILL) == 3
    assert EventKind.CONNECTION_CLOSED in kinds
