"""The driver's channels: how they are opened, and what gRPC itself keeps of them (channelz)."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from grpc._cython import cygrpc

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs.serving import LISTEN_IP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

CLUSTER_DNS = "GRPCLB_CLUSTER_DNS"
"""The cluster's DNS server, "ip:port": what /etc/resolv.conf is to a pod of a real cluster."""

_LOCALHOST = "dns:///localhost:"

# One trace event takes about 100 bytes: hours of a connection that is renewed every second.
_TRACE_BYTES = 4 * 2**20

_runs = itertools.count(1)

_last_known = [0]
"""channelz number of the last channel that had been made when one was about to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One of a run's channels."""

    channel: Any
    channelz_id: int | None
    """None: gRPC keeps no accounts of it."""


@contextlib.asynccontextmanager
async def opened(plan: driver_pb2.Plan) -> AsyncIterator[list[Opened]]:
    """Open the channels of *plan*, and close them with all that is in flight on leaving."""
    channels: list[Opened] = []
    options = _options(plan)
    try:
        for _ in range(plan.channels):
            channels.append(_open(plan, options))  # noqa: PERF401 - those open are closed if one fails
        yield channels
    finally:
        for each in channels:
            await each.channel.close()


def cluster_target(target: str) -> str:
    """Return *target* with the cluster's DNS server as the authority of a ``dns:///`` name.

    The name ``localhost`` stands for the pod itself: for its own address where pods share a
    machine's loopback.

    :source: https://github.com/grpc/grpc/blob/master/doc/naming.md
    """
    return led(target, dns=os.environ.get(CLUSTER_DNS, ""), own=os.environ.get(LISTEN_IP, ""))


def led(target: str, *, dns: str, own: str) -> str:
    """Return *target* with a DNS server as the authority of a ``dns:///`` name.

    :param dns: "ip:port"; empty: the system's own
    :param own: the address that ``localhost`` stands for; empty: itself
    """
    if target.startswith(_LOCALHOST):
        host = f"[{own}]" if ":" in own else own or "localhost"
        return f"dns:///{host}:{target.removeprefix(_LOCALHOST)}"
    if dns and target.startswith("dns:///"):
        return f"dns://{dns}/{target.removeprefix('dns:///')}"
    return target


def _options(plan: driver_pb2.Plan, *, traced: bool = True) -> list[tuple[str, int | str]]:
    options: dict[str, int | str] = {
        # http_proxy would capture even loopback and pod addresses.
        "grpc.enable_http_proxy": 0,
        "grpc.enable_channelz": 1,
        "grpc.max_channel_trace_event_memory_per_node": _TRACE_BYTES if traced else 0,
        # gRPC shares subchannels among channels with equal arguments: not among runs.
        "grpclb.run": next(_runs),
    }
    if plan.service_config:
        options["grpc.service_config"] = plan.service_config
    if plan.own_subchannel_pools:
        options["grpc.use_local_subchannel_pool"] = 1
    for argument in plan.arguments:
        options[argument.name] = getattr(argument, argument.WhichOneof("value") or "int_value")
    return list(options.items())


def open_blocking(plan: driver_pb2.Plan) -> Opened:
    """Open a channel for blocking calls to the plan's target, which is taken as it is."""
    return _numbered(lambda: _made(grpc, plan, plan.target, _options(plan, traced=False)))


def open_asyncio(plan: driver_pb2.Plan, *, interceptors: Sequence[Any]) -> Opened:
    """Open a channel for asyncio calls to the plan's target, which is taken as it is."""
    return _numbered(
        lambda: _made(
            grpc.aio, plan, plan.target, _options(plan, traced=False), interceptors=interceptors
        )
    )


def connected(opened: Opened) -> bool:
    """Tell whether a channel has all the connections that it wants."""
    if opened.channelz_id is None:
        return True
    states = [each.state for each in _channel(0, opened.channelz_id).subchannels]
    return bool(states) and set(states) == {"READY"}


@dataclass(frozen=True, slots=True)
class Account:
    """The calls that one subchannel was ever given."""

    address: str
    """The other end's."""
    started: int
    succeeded: int
    """Ended with OK."""


def accounts(channelz_id: int | None) -> dict[int, Account]:
    """Return the accounts of a channel's subchannels, by number, as of now."""
    if channelz_id is None:
        return {}
    found = {}
    channel = json.loads(cygrpc.channelz_get_channel(channelz_id))["channel"]
    for reference in channel.get("subchannelRef", []):
        number = int(reference["subchannelId"])
        # It may have gone since the channel's own accounts were taken.
        with contextlib.suppress(ValueError):
            data = json.loads(cygrpc.channelz_get_subchannel(number))["subchannel"]["data"]
            found[number] = Account(
                address=_address(data),
                started=int(data.get("callsStarted", 0)),
                succeeded=int(data.get("callsSucceeded", 0)),
            )
    return found


def _address(data: Mapping[str, str]) -> str:
    return unquote(data["target"].removeprefix("ipv4:").removeprefix("ipv6:"))


def _open(plan: driver_pb2.Plan, options: list[tuple[str, int | str]]) -> Opened:
    return _numbered(lambda: _made(grpc.aio, plan, cluster_target(plan.target), options))


def _made(
    module: Any,
    plan: driver_pb2.Plan,
    target: str,
    options: list[tuple[str, int | str]],
    **more: Any,
) -> Any:
    if not plan.HasField("credentials"):
        return module.insecure_channel(target, options=options, **more)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=plan.credentials.root_certificates or None,
        private_key=plan.credentials.private_key or None,
        certificate_chain=plan.credentials.certificate_chain or None,
    )
    return module.secure_channel(target, credentials, options=options, **more)


def _numbered(make: Callable[[], Any]) -> Opened:
    # Numbers only rise: those of before are not listed again, which for 600 channels takes 20 s.
    known = _last_known[0] = max(_channelz_ids(_last_known[0] + 1), default=_last_known[0])
    channel = make()
    # Python tells no channel's id. Nothing else of this process can have made one meanwhile: the
    # event loop was not left, and the channels that gRPC makes for itself are not top channels.
    new = _channelz_ids(known + 1)
    return Opened(channel=channel, channelz_id=new[0] if len(new) == 1 else None)


def _channelz_ids(first: int) -> list[int]:
    ids: list[int] = []
    while True:
        page = json.loads(cygrpc.channelz_get_top_channels(first))
        found = [int(channel["ref"]["channelId"]) for channel in page.get("channel", [])]
        ids += found
        if page.get("end", False) or not found:
            return ids
        first = max(found) + 1


def report(channels: Sequence[Opened]) -> driver_pb2.ChannelReport:
    """Return what gRPC keeps of *channels* now.

    Read from gRPC's core as JSON: the channelz service of this process says the same, as messages
    whose parsing takes ten times as long, on the event loop that sends the calls.
    """
    return driver_pb2.ChannelReport(
        clock_s=time.monotonic(),
        channels=[_channel(index, each.channelz_id) for index, each in enumerate(channels)],
    )


def _channel(index: int, channelz_id: int | None) -> driver_pb2.Channel:
    message = driver_pb2.Channel(channel=index)
    if channelz_id is None:
        return message
    channel = json.loads(cygrpc.channelz_get_channel(channelz_id))["channel"]
    message.state = _state(channel["data"])
    events = _events(channel)
    # A policy that hands its channel a new picker first traces a change of the channel's state, if
    # only from READY to READY. No picker is put to use untraced: the count is never too small.
    if events[:1] == ["Channel created"]:
        message.picker_rebuilds = sum(map(_is_state_change, events))
    for event in events:
        made, _, policy = event.partition('Created new LB policy "')
        if not made and policy:
            message.lb_policies.append(policy.rstrip('"'))
    for reference in channel.get("subchannelRef", []):
        # It may have gone since the channel's own accounts were taken.
        with contextlib.suppress(ValueError):
            message.subchannels.append(_subchannel(int(reference["subchannelId"])))
    message.subchannels.sort(key=lambda subchannel: subchannel.address)
    return message


def _subchannel(channelz_id: int) -> driver_pb2.Subchannel:
    subchannel = json.loads(cygrpc.channelz_get_subchannel(channelz_id))["subchannel"]
    data = subchannel["data"]
    return driver_pb2.Subchannel(
        id=channelz_id,
        address=_address(data),
        state=_state(data),
        calls_started=int(data.get("callsStarted", 0)),
        connections=sum(
            _is_state_change(event) and event.endswith(" to READY") for event in _events(subchannel)
        ),
    )


def _state(data: dict[str, Any]) -> str:
    return str(data.get("state", {}).get("state", "IDLE"))  # untold until it first changes


def _events(entity: dict[str, Any]) -> list[str]:
    return [event["description"] for event in entity["data"].get("trace", {}).get("events", [])]


def _is_state_change(event: str) -> bool:
    # "Channel state change to READY" of a channel in every version; of a subchannel
    # "Subchannel state change to READY", later "Subchannel connectivity state changed to READY".
    return " state change" in event
