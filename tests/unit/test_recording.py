from __future__ import annotations

from re import escape
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_grpclb.errors import ChannelError
from pytest_grpclb.model import CallTemplate, Target
from pytest_grpclb.recording import ChannelMaker


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
