"""What a pod's events tell of volumes and probes, and what to do about it. Pure.

:source: Kubernetes, ``pkg/kubelet/events`` and ``pkg/probe`` (reasons and messages); Go, ``net``
    and ``net/http`` (what they say of connections)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.pods.container_hints import BROUGHT_BY, LISTENING, Hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["of_preparations", "of_probes", "of_shared_ports"]

_PROBED = re.compile(r"(Startup|Readiness|Liveness) probe (?:failed|errored[^:]*): (.*)", re.DOTALL)
_NOT_GRPC = re.compile(r'failed to connect service (?:at )?"([^"]+)"')
_REFUSED = re.compile(r"([\w.\[\]:]+:\d+)\W.*connection refused", re.DOTALL)
_UNANSWERED = re.compile(r"dial tcp (\S+): (?:i/o timeout|connect: no route to host)")
_SLOW_HEALTH = re.compile(r"health rpc did not complete within (\S+)")
_STARTS_SLOWLY = "raise --grpclb-ready-timeout if it starts slowly"
_SAY_WHERE = f"say where the service listens with --grpclb-service-port, or {_STARTS_SLOWLY}"
_SLOWLY = "see its log, or raise --grpclb-ready-timeout if it starts slowly"
_SHOWN_CHARACTERS = 300
"""Of what a probe's command says, which may be a page."""


def of_shared_ports(events: Sequence[Mapping[str, Any]]) -> Iterator[Hint]:
    """Yield that pods of the embedded cluster want one port, if so: crashes follow from that."""
    if any(event.get("reason") == "SharedPort" for event in events):
        yield Hint(text=f"the service listens on all addresses; {LISTENING}", hopeless=True)


def of_preparations(events: Sequence[Mapping[str, Any]]) -> Iterator[Hint]:
    """Yield what keeps a pod's containers from being started at all."""
    for event in events:
        message = event.get("message", "")
        if event.get("reason") in {"FailedMount", "FailedAttachVolume"}:
            text = f"a volume cannot be made: {message}; {BROUGHT_BY}"
        elif event.get("reason") == "FailedCreatePodSandBox":
            text = (
                f"the node cannot make the pod's sandbox: {message}; that is the node's own "
                "trouble (its network, its runtime): have it mended"
            )
        else:
            continue
        yield Hint(text=text, hopeless=False)
        return


def of_probes(events: Sequence[Mapping[str, Any]]) -> Iterator[Hint]:
    """Yield what failed probes tell of a process that runs."""
    elsewhere = next(
        (event.get("message", "") for event in events if event.get("reason") == "ListensElsewhere"),
        "",
    )
    told = [
        hint
        for event in events
        if event.get("reason") == "Unhealthy"
        and (hint := _of_failure(event.get("message", ""), elsewhere))
    ]
    # One that says more of the service comes before one that may be from before it listened.
    yield from (hint for _, hint in sorted(told, key=lambda each: each[0]))


def _of_failure(message: str, elsewhere: str) -> tuple[int, Hint] | None:
    """Return what one failure tells, and its rank; None: nothing."""
    if "does not implement the grpc health protocol" in message:
        text = (
            "the service has no health service (grpc.health.v1.Health) that a gRPC probe could "
            "ask: set --grpclb-probe=tcp, or have its manifests probe by tcpSocket"
        )
        return 0, Hint(text=text, hopeless=True)
    if "malformed HTTP response" in message and "\\x00" in message:
        text = (
            "an httpGet probe asks a port that speaks HTTP/2, as gRPC does: have its manifests "
            "probe by grpc or tcpSocket, or ask another port"
        )
        return 0, Hint(text=text, hopeless=True)
    if 'responded with "NOT_SERVING"' in message:
        text = f"its health service answers NOT_SERVING: the service itself holds back; {_SLOWLY}"
        return 1, Hint(text=text, hopeless=False)
    if "health rpc probe failed" in message and "code = NotFound" in message:
        text = (
            "its health service does not know the name that the probe asks for (grpc.service in "
            f"its manifests or chart): correct that, or {_STARTS_SLOWLY}"
        )
        return 1, Hint(text=text, hopeless=False)
    if slow := _SLOW_HEALTH.search(message):
        text = (
            f"its health service does not answer within {slow[1]}: {_SLOWLY}, or the probe's "
            "timeoutSeconds in its own manifests or chart"
        )
        return 1, Hint(text=text, hopeless=False)
    return 2, Hint(text=_of_silence(message, elsewhere), hopeless=False)


def _of_silence(message: str, elsewhere: str) -> str:
    refused = _REFUSED.search(message)
    plaintext = None if refused else _NOT_GRPC.search(message)
    found = refused or plaintext
    if found and elsewhere:
        return (
            f"nothing listens on {found[1]}, the process is up: {elsewhere}; have its command "
            "listen on {ip}:{port} (--grpclb-command, grpclb_embedded_images), say where it "
            "listens with --grpclb-service-port, or raise --grpclb-ready-timeout if it is still "
            "starting"
        )
    if refused:
        return f"nothing listens on {refused[1]}: {_SAY_WHERE}"
    if plaintext:
        return (
            f"nothing that speaks gRPC in plaintext listens on {plaintext[1]}: say where the "
            "service listens with --grpclb-service-port, probe it by TCP if it speaks TLS "
            f"(--grpclb-probe=tcp, tcpSocket in its manifests), or {_STARTS_SLOWLY}"
        )
    if silent := _UNANSWERED.search(message):
        return (
            f"the node gets no answer from {silent[1]}: have network policies and firewalls let "
            f"nodes through to pods, or {_STARTS_SLOWLY}"
        )
    probed = _PROBED.match(message)
    kind, told = (probed[1].lower(), probed[2]) if probed else ("", message)
    which = f"its {kind} probe" if kind else "a probe of it"
    shown = " ".join(told.split())[:_SHOWN_CHARACTERS]
    return (
        f"{which} fails: {shown or 'it does not say why'}; correct the probe or what it asks, in "
        f"its own manifests or chart, or {_STARTS_SLOWLY}"
    )
