"""Preflight: does an Ingress lead to pods that speak what it speaks to them? Pure comparison.

The chain is IngressClass, host, path, Service, port, targetPort, EndpointSlice, container port; and
beside it the certificate's Secret and the backend-protocol. Through a proxy each break of it looks
the same, like a 502, 503 or 404; here each has a sentence, with the field to change.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_grpclb.certificates import KeypairError, covers, keypair_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_grpclb.certificates import Keypair
    from pytest_grpclb.model import Manifest

__all__ = [
    "CONTROLLER",
    "Facts",
    "Spoken",
    "backend_of",
    "mismatches",
    "service_port",
    "wrong_class",
]

CONTROLLER = "k8s.io/ingress-nginx"
PROTOCOL = "nginx.ingress.kubernetes.io/backend-protocol"


class Spoken(enum.Enum):
    """What a pod's port was found to speak."""

    PLAINTEXT = "HTTP/2 in plaintext"
    TLS = "TLS"
    NOTHING = "nothing"
    """Connections are refused."""
    UNKNOWN = "neither HTTP/2 nor TLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the API and one pod say, as far as the chain could be followed."""

    ingress: Manifest
    host: str
    """What clients call."""
    path: str
    """Of the call: ``/package.Service/Method``."""
    now: dt.datetime
    classes: Sequence[Manifest] | None = None
    """All IngressClasses; None: they may not be read."""
    service: Manifest | None = None
    slices: Sequence[Manifest] = ()
    """The EndpointSlices of that Service."""
    pods: Sequence[Manifest] = ()
    """The pods that the Service selects."""
    secrets: Sequence[Manifest] | None = None
    """Those of the name that the Ingress gives, of all namespaces; None: they may not be read."""
    spoken: Mapping[str, Spoken] = field(default_factory=dict)
    """By name of pod: what it speaks where the Service leads to."""
    complaints: Sequence[str] = ()
    """Why the controller could not do its work at all."""


def mismatches(facts: Facts) -> list[str]:
    """Return what is wrong, each with what to change; nothing if the chain holds."""
    wrong = wrong_class(facts.ingress, facts.classes)
    if wrong:
        return wrong  # no controller looks at the rest
    return [
        *facts.complaints,
        *_check_certificate(facts),
        *_check_chain(facts),
    ]


def backend_of(ingress: Manifest, host: str, path: str) -> Manifest | None:
    """Return the backend that an Ingress has for a call; None: no rule of it fits.

    :source: Kubernetes documentation, "Ingress", hostname wildcards, path types, multiple matches
    """
    exact = [rule for rule in _rules(ingress) if rule.get("host") == host]
    wildcard = f"*.{host.partition('.')[2]}"
    wild = [rule for rule in _rules(ingress) if rule.get("host") == wildcard]
    anyone = [rule for rule in _rules(ingress) if not rule.get("host")]
    rules = exact or wild or anyone
    found = [
        (each.get("pathType") == "Exact", len(each.get("path") or "/"), each["backend"])
        for rule in rules
        for each in (rule.get("http") or {}).get("paths") or ()
        if _matches(each, path)
    ]
    if found:
        backend: Manifest = max(found, key=lambda each: each[:2])[2]
        return backend
    default: Manifest | None = ingress["spec"].get("defaultBackend")
    return default


def service_port(service: Manifest, backend: Manifest) -> Mapping[str, Any] | None:
    """Return the port of a Service that a backend asks for; None: it has no such port."""
    asked = backend["service"].get("port") or {}
    for port in service["spec"].get("ports") or ():
        if asked.get("name") == port.get("name", "") or asked.get("number") == port["port"]:
            found: Mapping[str, Any] = port
            return found
    return None


# --- the class


def wrong_class(ingress: Manifest, classes: Sequence[Manifest] | None) -> list[str]:
    """Return why no controller of class nginx takes an Ingress up; nothing if one does.

    :param classes: all IngressClasses; None: they may not be read
    """
    named = ingress["spec"].get("ingressClassName")
    if classes is None:
        return []
    known = {each["metadata"]["name"]: each["spec"].get("controller") for each in classes}
    ours = [name for name, controller in sorted(known.items()) if controller == CONTROLLER]
    told = f"IngressClasses of {CONTROLLER}: {', '.join(ours) or 'none'}"
    if named not in known:
        return [
            f"spec.ingressClassName is {named!r}, which is no IngressClass of the cluster, so no "
            f"controller takes the Ingress up; set it to one of the {told}"
        ]
    if known[named] != CONTROLLER:
        return [
            f"spec.ingressClassName is {named!r}, whose controller is {known[named]!r}; set it to "
            f"one of the {told}"
        ]
    return []


# --- the certificate


def _check_certificate(facts: Facts) -> Iterator[str]:
    entries = facts.ingress["spec"].get("tls") or ()
    named = [each for each in entries if facts.host in (each.get("hosts") or ())]
    if not named or not named[0].get("secretName"):
        yield (
            f"spec.tls names no Secret for the host {facts.host!r}, so clients get the "
            "controller's fake certificate; list the host there, with a secretName"
        )
        return
    if facts.secrets is None:
        return
    name, namespace = named[0]["secretName"], facts.ingress["metadata"]["namespace"]
    found = {each["metadata"]["namespace"]: each for each in facts.secrets}
    if namespace not in found:
        elsewhere = ", ".join(repr(each) for each in sorted(found))
        where = f"; there is one in {elsewhere}, but " if elsewhere else ": "
        yield (
            f"there is no Secret {name!r} in namespace {namespace!r}{where}"
            "spec.tls.secretName must name one in the Ingress's own namespace"
        )
        return
    try:
        keypair = keypair_of(found[namespace])
    except KeypairError as error:
        yield (
            f"Secret {name!r} cannot be used for TLS: {error}; make it with "
            "`kubectl create secret tls`"
        )
        return
    yield from _check_validity(facts, name, keypair)


def _check_validity(facts: Facts, secret: str, keypair: Keypair) -> Iterator[str]:
    if not covers(keypair, facts.host):
        names = ", ".join(keypair.names) or "no name"
        yield (
            f"the certificate in Secret {secret!r} is for {names}, not for {facts.host!r}, so "
            "clients get the controller's fake certificate; issue it for that host"
        )
    if keypair.expires < facts.now:
        yield (
            f"the certificate in Secret {secret!r} expired at "
            f"{keypair.expires:%Y-%m-%d %H:%M:%S} UTC, so clients refuse it; issue a new one"
        )


# --- from the host to the container


def _check_chain(facts: Facts) -> Iterator[str]:
    ingress = facts.ingress
    backend = backend_of(ingress, facts.host, facts.path)
    if backend is None:
        hosts = ", ".join(repr(rule.get("host", "")) for rule in _rules(ingress)) or "none"
        yield (
            f"spec.rules has no path for {facts.path!r} of host {facts.host!r} (hosts: {hosts}), "
            "which is answered with 404; add one, such as the Prefix '/'"
        )
        return
    if "service" not in backend:
        yield "the backend is no Service; give backend.service"
        return
    name = backend["service"]["name"]
    if facts.service is None:
        yield f"backend.service.name is {name!r}, and there is no such Service; name one that is"
        return
    port = service_port(facts.service, backend)
    if port is None:
        asked = backend["service"].get("port") or {}
        ports = [
            f"{each.get('name', '')}:{each['port']}" for each in facts.service["spec"]["ports"]
        ]
        yield (
            f"backend.service.port is {asked.get('name') or asked.get('number')!r}, and Service "
            f"{name!r} has only {', '.join(ports)}; name one of these"
        )
        return
    yield from _check_endpoints(facts, name, port)


def _check_endpoints(facts: Facts, name: str, port: Mapping[str, Any]) -> Iterator[str]:
    ready = [
        endpoint
        for piece in facts.slices
        for endpoint in piece.get("endpoints") or ()
        if endpoint.get("conditions", {}).get("ready") is not False
        and any(each.get("name", "") == port.get("name", "") for each in piece.get("ports") or ())
    ]
    target = port.get("targetPort", port["port"])
    containers = _container_ports(facts.pods)
    if not ready:
        selector = facts.service["spec"].get("selector") if facts.service else None
        named = isinstance(target, str) and target not in containers
        if facts.pods and named:
            yield (
                f"Service {name!r} has targetPort {target!r}, and no container port has that name "
                f"(there are: {_told(containers)}); change targetPort"
            )
            return
        yield (
            f"Service {name!r} has no ready endpoint, which is answered with 503: its selector "
            f"{dict(selector or {})} fits {len(facts.pods)} pods, none of them ready; see why, or "
            "scale up"
        )
        return
    for pod, spoken in facts.spoken.items():
        yield from _check_spoken(facts, name, pod, spoken, target, containers)


def _check_spoken(
    facts: Facts,
    service: str,
    pod: str,
    spoken: Spoken,
    target: str | int,
    containers: Mapping[str, int],
) -> Iterator[str]:
    if spoken is Spoken.NOTHING:
        yield (
            f"Service {service!r} has targetPort {target!r}, where nothing listens in pod {pod!r} "
            f"(container ports: {_told(containers)}), which is answered with 502; change targetPort"
        )
        return
    given = (facts.ingress["metadata"].get("annotations") or {}).get(PROTOCOL)
    needed = {Spoken.PLAINTEXT: "GRPC", Spoken.TLS: "GRPCS"}.get(spoken)
    if needed is None:
        yield (
            f"pod {pod!r} speaks {spoken.value} on targetPort {target!r} of Service {service!r}; "
            "lead it to the port that serves gRPC"
        )
    elif (given or "HTTP").strip().upper() != needed:
        seen = "is not set, which is HTTP" if given is None else f"is {given!r}"
        yield (
            f"annotation {PROTOCOL} {seen}, but pod {pod!r} speaks {spoken.value} on targetPort "
            f"{target!r}, so that every call fails; set it to {needed!r}"
        )


def _container_ports(pods: Sequence[Manifest]) -> dict[str, int]:
    return {
        port.get("name", ""): port["containerPort"]
        for pod in pods
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or ()
    }


def _told(containers: Mapping[str, int]) -> str:
    return ", ".join(f"{name}:{port}" for name, port in sorted(containers.items())) or "none"


def _rules(ingress: Manifest) -> Sequence[Mapping[str, Any]]:
    rules: Sequence[Mapping[str, Any]] = ingress["spec"].get("rules") or ()
    return rules


def _matches(rule: Mapping[str, Any], path: str) -> bool:
    prefix = (rule.get("path") or "/").rstrip("/")
    if rule.get("pathType") == "Exact":
        return rule.get("path") == path
    return path == prefix or path.startswith(f"{prefix}/")
