"""The likeliest cause of a skew, in one sentence that names what to set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.model import UPSTREAM_HEADER, EventKind, Mechanism, Outcome
from pytest_grpclb.report.tables import describe_slow, opened_connections, pod_name
from pytest_grpclb.statistics import count_unnamed, latencies, plural, slow_backends
from pytest_grpclb.strategies.clusterip import ClusterIp
from pytest_grpclb.strategies.ingress_nginx import IngressNginx

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.model import Backend, Traffic, Verdict

__all__ = ["diagnose", "name_advice", "short_lived"]

_AGES = 1.5
"""A connection ends at 1.1 times its age at the latest, and the client's report comes later."""
_SHORT = 3
"""So many times as many connections end as an age explains, before its unit is in doubt."""
_INGRESS = IngressNginx().name
_CLUSTER_IP = ClusterIp().name


def diagnose(traffic: Traffic, verdict: Verdict) -> str:
    """Return the likeliest cause of a verdict that is not EVEN and its remedy; empty if it is.

    The causes are tried in order: the ones that make others meaningless first, then the ones whose
    evidence is the most direct. The cause ends at the first semicolon; the remedy follows.
    """
    for cause in _CAUSES if verdict.outcome is not Outcome.EVEN else ():
        if found := cause(traffic, verdict):
            return found
    return ""


def _unnamed(traffic: Traffic, _: Verdict) -> str:
    unnamed = count_unnamed(traffic.calls)
    if not unnamed:
        return ""
    return (
        f"{plural(unnamed, 'answered call')} did not say which pod answered; {name_advice(traffic)}"
    )


def name_advice(traffic: Traffic) -> str:
    """Return what was tried to learn who answered, and what to add where nothing helped."""
    tried = f"tried: {', '.join(traffic.attribution_tried)}; " if traffic.attribution_tried else ""
    return (
        f"{tried}{_controller_advice(traffic)}let the service send its pod's name (HOSTNAME) in "
        "a response header (--grpclb-backend-key) or a field of its reply (--grpclb-backend-field)"
        f"{_baseline_advice(traffic)}"
    )


def _baseline_advice(traffic: Traffic) -> str:
    if traffic.strategy != _CLUSTER_IP:
        return ""
    return (
        f"; {_CLUSTER_IP} is the baseline, where calls are not spread anyway: leave it out with "
        f'@pytest.mark.grpclb_skip("{_CLUSTER_IP}")'
    )


def _controller_advice(traffic: Traffic) -> str:
    """Return what to set on an ingress controller whose answers lack the proxy's own header.

    :source: ingress-nginx v1.15.1, "Custom Headers"; its controller reads them when it starts
    """
    lacking = any(f"{UPSTREAM_HEADER!r}" in each for each in traffic.attribution_tried)
    if not lacking or traffic.strategy != _INGRESS:
        return ""
    return (
        "have the ingress controller name the pod: in its ConfigMap set add-headers to "
        "NAMESPACE/NAME of another ConfigMap, which has the entry "
        f"'{UPSTREAM_HEADER}: $upstream_addr', and restart it; or "
    )


def _too_few(_: Traffic, verdict: Verdict) -> str:
    if verdict.outcome is not Outcome.INCONCLUSIVE:
        return ""
    return f"the calls are too few; send at least {verdict.needed_calls}"


def _strangers(traffic: Traffic, verdict: Verdict) -> str:
    known = {backend.uid for backend in traffic.backends}
    strangers = [uid for uid in verdict.counts if uid not in known]
    if not strangers:
        return ""
    if any(backend.name == strangers[0] for backend in traffic.backends):
        return (
            f"pods one after the other were called {strangers[0]!r}; let the service name them by "
            "their UIDs (metadata.uid by a fieldRef)"
        )
    return (
        f"calls reach {strangers[0]!r}, which is no pod of this deployment; compare the selector "
        "of the Service that is dialled with the labels of the deployment's pods"
    )


def _still_called(traffic: Traffic, verdict: Verdict) -> str:
    if _newcomers(traffic, verdict):
        return ""  # it is about these; a pod that was removed may have been called for a moment
    for backend in traffic.backends:
        if backend.removed_at_s is not None and verdict.counts.get(backend.uid):
            return (
                f"connections to {backend.name} outlive its endpoint; let the server close them "
                "when it gets SIGTERM (a graceful stop sends GOAWAY), or set a max connection age"
            )
    return ""


def _long_streams(traffic: Traffic, verdict: Verdict) -> str:
    came_s = [
        backend.ready_at_s
        for backend in _idle(traffic, verdict)
        if backend.ready_at_s is not None and backend.ready_at_s > traffic.started_at_s
    ]
    if traffic.streams_kept_open is None or not came_s:
        return ""
    if any((stream.opened_s or 0.0) >= min(came_s) for stream in traffic.streams):
        return ""
    return (
        "a stream stays on its connection for as long as it is open, and none has ended since the "
        f"{plural(len(came_s), 'new pod')} came; let client or server end streams after a time, "
        "and open them again (duration_s)"
    )


def _pinned_connections(traffic: Traffic, verdict: Verdict) -> str:
    if traffic.mechanism is not Mechanism.CONNECTION:
        return ""
    opened = opened_connections(traffic)
    shared = opened < traffic.channels
    carriers = plural(opened, "connection")
    carriers += f" of {traffic.channels} channels" if shared else ""
    who = "a ClusterIP" if traffic.strategy == "clusterip" else traffic.strategy
    advice = "use a headless Service with round_robin"
    if shared:
        advice += ", or grpc.use_local_subchannel_pool=1 for a connection per channel"
    return (
        f"{carriers} carried 100 % of {plural(verdict.calls, 'call')}: "
        f"{who} balances connections, not calls; {advice}"
    )


def _proxy_with_one_host(traffic: Traffic, verdict: Verdict) -> str:
    if not traffic.proxied or not _all_on_one(verdict):
        return ""
    return (
        f"the proxy sent every call to 1 of {verdict.backends} ready pods; compare its own list of "
        "hosts, which is among the artifacts (--grpclb-artifacts DIR), with the Service's endpoints"
    )


def _one_address(traffic: Traffic, verdict: Verdict) -> str:
    # Behind a proxy one address is as it should be; a proxy's picks are no client's round robin.
    if traffic.mechanism is not Mechanism.ROUND_ROBIN or len(traffic.resolved) != 1:
        return ""
    if not _all_on_one(verdict):
        return ""
    return (
        f"the client knows 1 address, {traffic.resolved[0]}, for {verdict.backends} ready pods; "
        "dial the name of a headless Service (clusterIP: None) as dns:///NAME:PORT"
    )


def _pick_first(traffic: Traffic, verdict: Verdict) -> str:
    config = traffic.settings.get("service config")
    if config is None or "pick_first" not in config or not _all_on_one(verdict):
        return ""
    return (
        "the client sends everything over the first connection that stands (pick_first); set the "
        'service config {"loadBalancingConfig":[{"round_robin":{}}]}'
    )


def _age_that_ends_nothing(traffic: Traffic, verdict: Verdict) -> str:
    timers = traffic.timers
    if timers is None or timers.push_s is not None or not traffic.connections:
        return ""
    age_s = timers.connection_age_s
    ran_s = max(traffic.calls.done_s, default=traffic.started_at_s) - traffic.started_at_s
    if age_s is None or ran_s < _AGES * age_s or not _newcomers(traffic, verdict):
        return ""
    if any(event.kind is EventKind.CONNECTION_CLOSED for event in traffic.events):
        return ""
    return (
        f"no connection ended in {ran_s:.1f} s, though the service was told a max connection age "
        f"of {age_s:g} s; see whether it reads what it is told, and in that unit "
        "(grpclb_connection_age_env says how it is told)"
    )


def _short_lived(traffic: Traffic, _: Verdict) -> str:
    return short_lived(traffic)


def short_lived(traffic: Traffic) -> str:
    """Return what is wrong where far more connections ended than their age has them do."""
    age_s = None if traffic.timers is None else traffic.timers.connection_age_s
    closed = sum(
        event.kind is EventKind.CONNECTION_CLOSED and event.at_s >= traffic.started_at_s
        for event in traffic.events
    )
    if age_s is None or not closed:
        return ""
    ran_s = max(traffic.calls.done_s, default=traffic.started_at_s) - traffic.started_at_s
    usual = traffic.channels * len(traffic.backends) * (1 + ran_s / age_s)
    if closed <= _SHORT * usual:
        return ""
    return (
        f"{closed} connections ended in {ran_s:.2f} s, though the service was told a max "
        f"connection age of {age_s:g} s; see in which unit it reads what it is told "
        "(grpclb_connection_age_env=NAME tells seconds, NAME={ms} milliseconds)"
    )


def _newcomers(traffic: Traffic, verdict: Verdict) -> list[Backend]:
    return [
        backend
        for backend in _idle(traffic, verdict)
        if backend.ready_at_s is not None and backend.ready_at_s > traffic.started_at_s
    ]


def _never_looked_again(traffic: Traffic, verdict: Verdict) -> str:
    newcomers = _newcomers(traffic, verdict)
    timers = traffic.timers
    if not newcomers or timers is None:
        return ""
    if timers.push_s is not None:
        return _never_told(traffic, len(newcomers))
    if timers.connection_age_s is None:
        return (
            "without a max connection age no connection ends, so the client never asks DNS for "
            f"the {plural(len(newcomers), 'new pod')}; set one on the servers "
            "(max_connection_age_s; grpclb_connection_age_env says how yours is told)"
        )
    last_s = max(traffic.calls.done_s, default=traffic.started_at_s)
    watched_s = last_s - min(backend.ready_at_s or 0.0 for backend in newcomers)
    if timers.min_resolution_interval_s > watched_s:
        return (
            f"the client asks DNS at most every {timers.min_resolution_interval_s:g} s, and did "
            f"not for the {plural(len(newcomers), 'new pod')}; lower "
            "grpc.dns_min_time_between_resolutions_ms"
        )
    if timers.dns_ttl_s > watched_s:
        return (
            f"DNS may answer for {timers.dns_ttl_s:g} s as it did before the "
            f"{plural(len(newcomers), 'new pod')}; lower the TTL of the cluster's DNS"
        )
    return ""


def _never_told(traffic: Traffic, newcomers: int) -> str:
    if traffic.proxied:
        return (
            f"the proxy did not take up the {plural(newcomers, 'new pod')}; compare its own "
            "list of hosts, which is among the artifacts (--grpclb-artifacts DIR), with the "
            "Service's endpoints"
        )
    return (
        f"nobody told the client of the {plural(newcomers, 'new pod')}; see in the logs of"
        " the balancers whether they watch the EndpointSlices, and whether the client "
        "still has its stream to one"
    )


def _not_connected(traffic: Traffic, verdict: Verdict) -> str:
    if not traffic.connections:
        return ""
    states = {
        connection.address.rpartition(":")[0].strip("[]"): connection.state
        for connection in traffic.connections
    }
    idle = [backend for backend in _idle(traffic, verdict) if backend.address]
    for backend in idle:
        seen = {address: states[address] for address in backend.addresses if address in states}
        if seen and "READY" not in seen.values():
            address, state = next(iter(seen.items()))
            return (
                f"the client's connection to {backend.name} at {address} is {state}; "
                "check the port it listens on, its readiness probe and network policies"
            )
    unknown = [backend for backend in idle if states.keys().isdisjoint(backend.addresses)]
    # Behind a proxy the client sees no pod address at all, which says nothing of any pod.
    if unknown and len(unknown) < verdict.backends:
        return (
            f"the client does not know {unknown[0].address}, the address of {unknown[0].name}; "
            "check that the Service selects that pod and that DNS lists it"
        )
    return ""


def _incomplete_warm_up(traffic: Traffic, verdict: Verdict) -> str:
    if traffic.mechanism is not Mechanism.ROUND_ROBIN:
        return ""
    ready = sum(
        verdict.counts.get(backend.uid) is not None
        and (backend.ready_at_s is None or backend.ready_at_s <= traffic.started_at_s)
        for backend in traffic.backends
    )
    for channel, seen in enumerate(traffic.warm_up_seen):
        if seen < ready:
            return (
                f"channel {channel} had reached {seen} of {ready} pods when counting began; "
                "check that every pod can be connected to from the driver's pod"
            )
    return ""


def _rebuilt_pickers(traffic: Traffic, _: Verdict) -> str:
    if traffic.mechanism is not Mechanism.ROUND_ROBIN or not traffic.picker_rebuilds:
        return ""
    if traffic.proxied:
        return (
            "the proxy's list of hosts changed, or a call was sent again, "
            f"{plural(traffic.picker_rebuilds, 'time')} while calls were counted; measure evenness "
            "while no pod comes or goes"
        )
    return (
        f"the client's picker was rebuilt {plural(traffic.picker_rebuilds, 'time')} while calls "
        "were counted, and each one starts its round anew; measure evenness with "
        "max_connection_age_s=None"
    )


def _slow(traffic: Traffic, verdict: Verdict) -> str:
    for slow in slow_backends(latencies(traffic.calls), alpha=traffic.alpha):
        if verdict.counts.get(slow.backend, 0) * verdict.backends < verdict.calls:
            return (
                f"{describe_slow(traffic, slow)}, and what goes by load or latency calls it less; "
                "look at its log, its limits and its node"
            )
    return ""


def _unexplained(traffic: Traffic, verdict: Verdict) -> str:
    busiest = max(verdict.counts, key=lambda uid: verdict.counts[uid])
    return (
        "no setting that is known here explains it; compare the log of "
        f"{pod_name(traffic, busiest)} with those of the others"
    )


_CAUSES: tuple[Callable[[Traffic, Verdict], str], ...] = (
    _unnamed,
    _too_few,
    _strangers,
    _short_lived,
    _still_called,
    _long_streams,
    _pinned_connections,
    _proxy_with_one_host,
    _one_address,
    _pick_first,
    _age_that_ends_nothing,
    _never_looked_again,
    _not_connected,
    _incomplete_warm_up,
    _rebuilt_pickers,
    _slow,
    _unexplained,
)


def _idle(traffic: Traffic, verdict: Verdict) -> list[Backend]:
    return [backend for backend in traffic.backends if verdict.counts.get(backend.uid) == 0]


def _all_on_one(verdict: Verdict) -> bool:
    return verdict.backends > 1 and sum(count > 0 for count in verdict.counts.values()) == 1
