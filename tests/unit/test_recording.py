from __future__ import annotations

from re import escape
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from pytest_grpclb.driver.plan import Plan
from pytest_grpclb.errors import ChannelError
from pytest_grpclb.model import CallTemplate, Target
from pytest_grpclb.programs import channels
from pytest_grpclb.programs.channels import Account
from pytest_grpclb.recording import ChannelMaker, Recording, _BlockingCalls

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("kind", ["channel", "aio_channel"])
def test_where_the_clusters_names_hold_inside_it_only_the_error_says_what_to_do(kind: str) -> None:
    freezer: Any = SimpleNamespace(
        target=Target(address="dns:///shop.ns.svc.cluster.local.:50051"),
        strategy=SimpleNamespace(name="headless"),
    )
    maker = ChannelMaker(
        freezer, dns_address="", beside="10.0.0.1", cluster="kind-grpclb-1", backends=tuple
    )
    told = (
        "headless: a channel of the test process cannot reach the service on the cluster "
        "'kind-grpclb-1': its clients dial names and addresses that hold inside the cluster only; "
        "call it by grpclb.drive(method=..., request=...), whose driver runs in the cluster, or "
        "use the strategy ingress-nginx, which is dialled from outside"
    )
    with pytest.raises(ChannelError, match=f"^{escape(told)}$"):
        getattr(maker, kind)(CallTemplate(method="/a.B/C"), alpha=1e-6)


class Done:
    """A call that has ended with OK, and of which nothing names who answered."""

    def done(self) -> bool:
        return True

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    def details(self) -> str:
        return ""

    def trailing_metadata(self) -> None:
        return None

    initial_metadata = trailing_metadata

    def add_done_callback(self, told: Callable[[Any], None]) -> None:
        told(self)


BEFORE = {1: Account("10.0.0.1:50051", 5, 5), 2: Account("10.0.0.2:50051", 5, 5)}


@pytest.mark.parametrize(
    ("now", "answered"),
    [
        ({**BEFORE, 2: Account("10.0.0.2:50051", 6, 6)}, "10.0.0.2"),
        # gRPC has sent it again, for the first had not begun to work on it.
        (
            {1: Account("10.0.0.1:50051", 6, 5), 2: Account("10.0.0.2:50051", 6, 6)},
            "10.0.0.2",
        ),
        ({**BEFORE, 3: Account("10.0.0.3:50051", 1, 1)}, "10.0.0.3"),
        # Its subchannel has gone, for DNS has told of other pods.
        ({2: BEFORE[2]}, "10.0.0.1"),
        ({}, None),
        (BEFORE, None),
        # Another thread's call has ended meanwhile: it may have been either.
        ({1: Account("10.0.0.1:50051", 6, 6), 2: Account("10.0.0.2:50051", 6, 6)}, None),
    ],
)
def test_who_answers_a_blocking_call_is_read_off_the_accounts_of_its_subchannels(
    monkeypatch: pytest.MonkeyPatch, now: dict[int, Account], answered: str | None
) -> None:
    looks = [BEFORE, now]
    monkeypatch.setattr(channels, "accounts", lambda _: looks.pop(0))
    pods = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    call = CallTemplate(method="/a.B/C", backend_key="")
    plan = Plan(target=Target(address="dns:///shop:1"), call=call, pods=pods).message().plan
    recording = Recording(plan=plan, alpha=1e-6, allowed=frozenset())
    opened = channels.Opened(channel=None, channelz_id=7)
    _BlockingCalls(opened, recording).start(Done)
    [columns] = recording.recorder.take()
    names = [*columns.identities, None]
    assert names[columns.backend[0]] == (answered and f"{answered}:50051")
