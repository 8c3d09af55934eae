from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from grpc._cython import cygrpc

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs.channels import cluster_target, opened

from .conftest import Program, named, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Backend, DnsServer, Run


@pytest.mark.parametrize(
    ("target", "dialled"),
    [
        ("dns:///a.b.svc.cluster.local:80", "dns://127.0.0.10:53/a.b.svc.cluster.local:80"),
        ("dns://9.9.9.9/a:80", "dns://9.9.9.9/a:80"),
        ("ipv4:127.0.0.1:80", "ipv4:127.0.0.1:80"),
        ("localhost:80", "localhost:80"),
    ],
)
def test_only_a_dns_name_without_a_server_is_asked_of_the_cluster(
    monkeypatch: pytest.MonkeyPatch, target: str, dialled: str
) -> None:
    monkeypatch.setenv("GRPCLB_CLUSTER_DNS", "127.0.0.10:53")
    assert cluster_target(target) == dialled


def test_where_pods_have_a_resolver_of_their_own_targets_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GRPCLB_CLUSTER_DNS", raising=False)
    assert cluster_target("dns:///a:80") == "dns:///a:80"


@pytest.mark.parametrize(
    ("own", "dialled"),
    [
        ("127.9.1.5", "dns:///127.9.1.5:80"),
        ("fd00::5", "dns:///[fd00::5]:80"),
        ("", "dns:///localhost:80"),
    ],
)
def test_localhost_is_the_pod_itself(
    monkeypatch: pytest.MonkeyPatch, own: str, dialled: str
) -> None:
    monkeypatch.setenv("GRPCLB_CLUSTER_DNS", "127.0.0.10:53")
    monkeypatch.setenv("GRPCLB_LISTEN_IP", own)
    assert cluster_target("dns:///localhost:80") == dialled


def test_a_report_counts_the_calls_of_each_connection(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    run = start_run(plan_for([program.address for program in greeters], calls=90)).finish()
    (before,), (after,) = run.reports[0].channels, run.reports[-1].channels
    assert after.state == "READY"
    assert list(after.lb_policies) == ["round_robin"]
    assert sorted(subchannel.address for subchannel in after.subchannels) == sorted(
        program.address for program in greeters
    )
    counted = [
        late.calls_started - early.calls_started
        for early, late in zip(before.subchannels, after.subchannels, strict=True)
    ]
    assert counted == [30, 30, 30]
    assert [subchannel.connections for subchannel in after.subchannels] == [1, 1, 1]
    assert sum(early.calls_started for early in before.subchannels) == run.started.warm_up_calls


@pytest.mark.parametrize(("own", "connections"), [(True, 3), (False, 1)])
def test_channels_connect_each_for_itself_if_told(
    start_backend: Callable[..., Backend],
    start_run: Callable[..., Run],
    own: bool,
    connections: int,
) -> None:
    backend = start_backend(named("one"))
    plan = plan_for([backend.address], channels=3, own_subchannel_pools=own)
    run = start_run(plan).finish()
    assert len(run.reports[-1].channels) == 3
    assert len(backend.peers) == connections


def test_a_connection_that_ages_is_news_and_a_rebuilt_picker(
    start_program: Callable[..., Program], start_run: Callable[..., Run]
) -> None:
    greeter = start_program("greeter", "--port=0", GRPC_MAX_CONNECTION_AGE="0.3", POD_UID="one")
    run = start_run(plan_for([greeter.address], calls=0, open=driver_pb2.Open(rate_per_s=50)))
    run.read_until(lambda: run.reports and _connections(run) >= 3)
    run.stop()
    run.finish()
    assert run.rebuilds >= 2  # one at least for each new connection
    assert set(run.rows.status) == {0}


def _connections(run: Run) -> int:
    return sum(subchannel.connections for subchannel in run.reports[-1].channels[0].subchannels)


def test_a_new_address_is_news_and_a_rebuilt_picker(
    start_program: Callable[..., Program],
    start_backend: Callable[..., Backend],
    start_run: Callable[..., Run],
    dns_server: DnsServer,
) -> None:
    driver = start_program("driver", "--port=0", GRPCLB_CLUSTER_DNS=dns_server.address)
    greeter = start_program("greeter", "--port=0", GRPC_MAX_CONNECTION_AGE="0.3", POD_UID="first")
    port = greeter.address.rpartition(":")[2]
    start_backend(named("second"), host=f"127.0.0.2:{port}")
    dns_server.addresses["pods.test"] = ["127.0.0.1"]
    interval = driver_pb2.ChannelArgument(
        name="grpc.dns_min_time_between_resolutions_ms", int_value=50
    )
    plan = plan_for(
        [""],
        target=f"dns:///pods.test:{port}",
        arguments=[interval],
        calls=0,
        open=driver_pb2.Open(rate_per_s=100),
    )
    run = start_run(plan, driver.address)
    run.read_until(lambda: run.rows.sequence)
    assert [subchannel.address for subchannel in run.reports[0].channels[0].subchannels] == [
        f"127.0.0.1:{port}"
    ]
    dns_server.addresses["pods.test"] = ["127.0.0.1", "127.0.0.2"]
    run.read_until(lambda: "second" in run.rows.identities)
    run.stop()
    run.finish()
    assert [subchannel.address for subchannel in run.reports[-1].channels[0].subchannels] == [
        f"127.0.0.1:{port}",
        f"127.0.0.2:{port}",
    ]
    assert run.rebuilds >= 1


def test_a_trace_too_small_to_count_by_leaves_the_count_absent(
    greeters: list[Program], start_run: Callable[..., Run]
) -> None:
    small = driver_pb2.ChannelArgument(
        name="grpc.max_channel_trace_event_memory_per_node", int_value=256
    )
    plan = plan_for([program.address for program in greeters], arguments=[small])
    run = start_run(plan).finish()
    assert not run.reports[0].channels[0].HasField("picker_rebuilds")
    assert not run.reports[-1].channels[0].HasField("picker_rebuilds")


def test_hundreds_of_channels_are_told_apart_without_listing_all_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listing, listed = cygrpc.channelz_get_top_channels, 0

    def count(first: int) -> Any:
        nonlocal listed
        page = listing(first)
        listed += len(json.loads(page).get("channel", []))
        return page

    async def open_them() -> list[int | None]:
        plan = driver_pb2.Plan(target="ipv4:127.0.0.1:1", channels=300)
        async with opened(driver_pb2.Plan(target="ipv4:127.0.0.1:1", channels=1)):
            monkeypatch.setattr(cygrpc, "channelz_get_top_channels", count)
            async with opened(plan) as channels:
                return [each.channelz_id for each in channels]

    numbers = asyncio.run(open_them())
    assert None not in numbers
    assert len(set(numbers)) == 300
    assert listed <= 600  # each one when it is new, and once more before the next
