"""Preflight: does an Ingress lead to pods that speak what it speaks to them? Pure comparison.

The chain is IngressClass, host, path, Service, port, targetPort, EndpointSlice, container port; and
beside it the certificate's Secret and the backend-protocol. Through a proxy each break of it looks
the same, like a 502, 503 or 404; here each has a sentence, with the field to change.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_grpclb.certificates import KeypairError, covers, keypair_of, secret_for
from pytest_grpclb.ingress.rules import (
    PASSTHROUGH,
    PROTOCOL,
    SERVICE_UPSTREAM,
    annotation,
    asked_port,
    backend_of,
    is_true,
    passes_through,
    port_names,
    rule_host,
    rules_of,
    secret_names,
    service_port,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_grpclb.certificates import Keypair
    from pytest_grpclb.model import Manifest

__all__ = [
    "CONTROLLER",
    "Facts",
    "Spoken",
    "mismatches",
    "missing_class",
]

CONTROLLER = "k8s.io/ingress-nginx"
_FLAG = "--enable-ssl-passthrough"


class Spoken(enum.Enum):
    """What a pod's port was found to speak."""

    PLAINTEXT = "HTTP/2 in plaintext"
    TLS = "TLS"
    NOTHING = "nothing"
    """Connections are refused."""
    SILENCE = "silence"
    """Connections end without a word: behind a port-forward that may be for want of a listener, or
    because one listens on the pod's own address alone, and port-forwards come in at localhost."""
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
    """Those of the names that the Ingress gives, of all namespaces; None: they may not be read."""
    spoken: Mapping[str, Spoken] = field(default_factory=dict)
    """By name of pod: what it speaks where the Service leads to."""
    arguments: Sequence[str] | None = None
    """Of the controller's own command; None: they are not known."""
    complaints: Sequence[str] = ()
    """Why the controller could not do its work at all."""
    failing: bool = True
    """Whether calls fail, so that what only may be wrong is to be told as well."""


def mismatches(facts: Facts) -> list[str]:
    """Return what is wrong, each with what to change; nothing if the chain holds."""
    wrong = missing_class(facts.ingress, facts.classes)
    if wrong:
        return wrong  # no controller looks at the rest
    return [
        *facts.complaints,
        *_check_tls(facts),
        *_check_chain(facts),
        *(_foreign_class(facts.ingress, facts.classes) if facts.failing else ()),
    ]


# --- the class


def missing_class(ingress: Manifest, classes: Sequence[Manifest] | None) -> list[str]:
    """Return that an Ingress is of a class that there is not; nothing if there is.

    :param classes: all IngressClasses; None: they may not be read
    """
    named = ingress["spec"].get("ingressClassName")
    if classes is None or named in _controllers(classes):
        return []
    return [
        f"spec.ingressClassName is {named!r}, which is no IngressClass of the cluster, so no "
        f"controller takes the Ingress up; {_SET_CLASS} {_classes_told(classes)}"
    ]


def _foreign_class(ingress: Manifest, classes: Sequence[Manifest] | None) -> list[str]:
    """Return that the class of an Ingress may be another controller's, by its controller's name.

    That is whatever ingress-nginx was started with (``--controller-class``), so it only explains.
    """
    named = ingress["spec"].get("ingressClassName")
    known = _controllers(classes or ())
    if classes is None or known[named] == CONTROLLER:
        return []
    return [
        f"spec.ingressClassName is {named!r}, whose controller is {known[named]!r}; {_SET_CLASS} "
        f"{_classes_told(classes)}"
    ]


_SET_CLASS = "set it (--grpclb-ingress-class) to one of the"


def _controllers(classes: Sequence[Manifest]) -> dict[str, str]:
    return {each["metadata"]["name"]: each["spec"].get("controller") for each in classes}


def _classes_told(classes: Sequence[Manifest]) -> str:
    known = _controllers(classes)
    ours = [name for name, controller in sorted(known.items()) if controller == CONTROLLER]
    return f"IngressClasses of {CONTROLLER}: {', '.join(ours) or 'none'}"


# --- the certificate


def _check_tls(facts: Facts) -> Iterator[str]:
    if not passes_through(facts.ingress, facts.host):
        yield from _check_certificate(facts)
        return
    given = facts.arguments
    if given is not None and not {_FLAG, f"{_FLAG}=true"} & set(given):
        yield (
            f"annotation {PASSTHROUGH} is {annotation(facts.ingress, PASSTHROUGH)!r}, and the "
            f"controller runs without {_FLAG}, so that it ends TLS itself; start it with that flag"
        )


def _check_certificate(facts: Facts) -> Iterator[str]:
    host = rule_host(facts.ingress, facts.host)
    if not host:
        if backend_of(facts.ingress, facts.host, facts.path):  # else that is what there is to say
            yield (
                f"no rule of spec.rules has the host {facts.host!r} or a wildcard for it, so "
                "clients get the controller's fake certificate; give the rule that host"
            )
        return
    namespace = facts.ingress["metadata"]["namespace"]
    here = {
        each["metadata"]["name"]: each
        for each in facts.secrets or ()
        if each["metadata"]["namespace"] == namespace
    }
    entries = facts.ingress["spec"].get("tls") or ()
    name = secret_for(entries, host, lambda name: _keypair(here.get(name)))
    if facts.secrets is None and (name or (name is None and secret_names(facts.ingress))):
        return
    if not name:
        yield (
            f"spec.tls names no Secret for the host {host!r}, so clients get the controller's fake "
            "certificate; list the host there, with a secretName"
        )
        return
    if name not in here:
        found = {each["metadata"]["namespace"]: each["metadata"] for each in facts.secrets or ()}
        elsewhere = ", ".join(repr(each) for each in sorted(found) if found[each]["name"] == name)
        where = f"; there is one in {elsewhere}, but " if elsewhere else ": "
        yield (
            f"there is no Secret {name!r} in namespace {namespace!r}{where}"
            "spec.tls.secretName must name one in the Ingress's own namespace"
        )
        return
    try:
        keypair = keypair_of(here[name])
    except KeypairError as error:
        yield (
            f"Secret {name!r} cannot be used for TLS: {error}; make it with "
            "`kubectl create secret tls`"
        )
        return
    yield from _check_validity(facts, host, name, keypair)


def _keypair(secret: Manifest | None) -> Keypair | None:
    try:
        return keypair_of(secret) if secret else None
    except KeypairError:
        return None


def _check_validity(facts: Facts, host: str, secret: str, keypair: Keypair) -> Iterator[str]:
    if not covers(keypair, host):
        names = ", ".join(keypair.names) or "no name"
        yield (
            f"the certificate in Secret {secret!r} is for {names}, not for {host!r}, so "
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
        hosts = ", ".join(repr(rule.get("host", "")) for rule in rules_of(ingress)) or "none"
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
    asked = backend["service"].get("port") or {}
    told = f"backend.service.port is {asked.get('name') or asked.get('number')!r}, and"
    ports = ", ".join(
        f"{each.get('name', '')}:{each['port']}" for each in facts.service["spec"]["ports"]
    )
    if port is None:
        yield f"{told} Service {name!r} has only {ports}; name one of these"
        return
    by_address = is_true(ingress, SERVICE_UPSTREAM) and SERVICE_UPSTREAM
    if passes_through(ingress, facts.host):
        by_address = PASSTHROUGH
    if by_address and asked_port(backend) not in port_names(port):
        yield (
            f"{told} with the annotation {by_address} calls go to the ClusterIP of Service "
            f"{name!r}, which has only {ports}; name one of these"
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
    if spoken is Spoken.SILENCE:
        yield (
            f"Service {service!r} has targetPort {target!r}, where pod {pod!r} does not answer a "
            f"port-forward (container ports: {_told(containers)}): nothing listens there, or only "
            "on the pod's own address; if it is nothing, change targetPort"
        )
        return
    if passes_through(facts.ingress, facts.host):
        if spoken is not Spoken.TLS:
            yield (
                f"annotation {PASSTHROUGH} is {annotation(facts.ingress, PASSTHROUGH)!r}, so that "
                f"pods get clients' TLS as it is, but pod {pod!r} speaks {spoken.value} on "
                f"targetPort {target!r}; serve TLS there, or remove the annotation"
            )
        return
    given = annotation(facts.ingress, PROTOCOL)
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
