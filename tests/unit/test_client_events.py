from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.client_events import changes, with_pods
from pytest_grpclb.model import Connection, Event, EventKind

from .made_traffic import pods

OPENED, CLOSED = EventKind.CONNECTION_OPENED, EventKind.CONNECTION_CLOSED


def subchannel(
    number: int, state: str = "READY", *, opened: int = 1, channel: int = 0, subchannel: int = 0
) -> Connection:
    return Connection(
        channel=channel,
        address=f"10.0.0.{number}:50051",
        state=state,
        calls_started=0,
        connections=opened,
        subchannel=subchannel,
    )


def event(kind: EventKind, number: int, **more: Any) -> Event:
    known: dict[str, Any] = {"channel": 0, "address": f"10.0.0.{number}:50051"}
    return Event(at_s=7.0, kind=kind, **(known | more))


def told(before: list[Connection], after: list[Connection]) -> list[Event]:
    return changes(before, after, at_s=7.0)


def test_what_stands_is_no_event() -> None:
    assert told([subchannel(1), subchannel(2)], [subchannel(2), subchannel(1)]) == []


def test_a_connection_that_ends_and_one_that_comes_about() -> None:
    assert told([subchannel(1)], [subchannel(1, "IDLE")]) == [event(CLOSED, 1)]
    assert told([subchannel(1, "IDLE")], [subchannel(1, opened=2)]) == [event(OPENED, 1)]
    assert told([subchannel(1, "IDLE")], [subchannel(1, "CONNECTING")]) == []


def test_a_connection_that_was_renewed_between_two_accounts_was_closed_and_opened() -> None:
    renewed = [event(CLOSED, 1), event(OPENED, 1)]
    assert told([subchannel(1, opened=4)], [subchannel(1, opened=5)]) == renewed
    # Two were opened; the second of them does not stand any more.
    assert told([subchannel(1, opened=4)], [subchannel(1, "IDLE", opened=6)]) == [
        *[event(CLOSED, 1)] * 3,
        *[event(OPENED, 1)] * 2,
    ]


def test_a_new_address_is_an_answer_of_dns() -> None:
    assert told(
        [subchannel(1)], [subchannel(1), subchannel(2), subchannel(3, "CONNECTING", opened=0)]
    ) == [
        Event(at_s=7.0, kind=EventKind.RESOLVED, channel=0, detail="3 known, 2 new, 0 gone"),
        event(OPENED, 2),
    ]


def test_an_address_that_has_gone_takes_its_connection_with_it() -> None:
    assert told([subchannel(1), subchannel(2), subchannel(3, "IDLE")], [subchannel(1)]) == [
        Event(at_s=7.0, kind=EventKind.RESOLVED, channel=0, detail="1 known, 0 new, 2 gone"),
        event(CLOSED, 2),
    ]


def test_channels_have_connections_of_their_own() -> None:
    assert told(
        [subchannel(1), subchannel(1, channel=1)],
        [subchannel(1), subchannel(1, "IDLE", channel=1)],
    ) == [event(CLOSED, 1, channel=1)]


def test_another_subchannel_for_an_address_has_connections_of_its_own() -> None:
    renewed = [event(CLOSED, 1), event(OPENED, 1)]
    assert told([subchannel(1, subchannel=5)], [subchannel(1, subchannel=6)]) == renewed
    both = [subchannel(1, subchannel=5), subchannel(1, "IDLE", opened=0, subchannel=6)]
    assert told([subchannel(1, subchannel=5)], both) == []
    assert told(both, [subchannel(1, subchannel=5)]) == []


def test_a_count_that_grpc_has_forgotten_the_beginning_of_makes_no_event_of_nothing() -> None:
    assert told([subchannel(1, opened=9)], [subchannel(1, opened=3)]) == []
    assert told([subchannel(1, "IDLE", opened=9)], [subchannel(1, opened=3)]) == [event(OPENED, 1)]


@given(
    st.lists(
        st.dictionaries(st.integers(1, 4), st.tuples(st.booleans(), st.integers(0, 3))), min_size=2
    )
)
def test_connections_opened_and_closed_explain_those_that_stand(
    accounts: list[dict[int, tuple[bool, int]]],
) -> None:
    """Those at first, plus the opened, less the closed, are those at last."""

    def connections(account: dict[int, tuple[bool, int]]) -> list[Connection]:
        return [
            subchannel(number, "READY" if ready else "IDLE", opened=opened)
            for number, (ready, opened) in account.items()
        ]

    events = [
        event
        for before, after in itertools.pairwise(accounts)
        for event in told(connections(before), connections(after))
    ]
    for number in range(1, 5):
        standing = [
            sum(
                each.state == "READY"
                for each in connections(account)
                if f".{number}:" in each.address
            )
            for account in (accounts[0], accounts[-1])
        ]
        of_it = [each.kind for each in events if f".{number}:" in each.address]
        assert standing[0] + of_it.count(OPENED) - of_it.count(CLOSED) == standing[1]


def test_an_address_stands_for_the_pod_that_had_it_last() -> None:
    first, second = pods(2)
    heir = pods(3)[2].__class__(uid="heir", name="heir", address=first.address)
    events = [event(OPENED, 1), event(OPENED, 2), event(OPENED, 9)]
    assert [each.backend for each in with_pods(events, (first, second, heir))] == ["heir", "b", ""]
    v6 = [event(OPENED, 1, address="[fd00::7]:50051")]
    six = first.__class__(uid="six", name="six", address="fd00::7")
    assert [each.backend for each in with_pods(v6, (six,))] == ["six"]
    both = replace(first, other_addresses=("fd00::7",))
    assert [each.backend for each in with_pods([events[0], *v6], (both,))] == [first.uid] * 2
