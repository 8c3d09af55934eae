"""What an Ingress says of one call: its rule, its backend, its Secrets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_grpclb.model import Manifest

__all__ = [
    "PASSTHROUGH",
    "PREFIX",
    "PROTOCOL",
    "SERVICE_UPSTREAM",
    "annotation",
    "asked_port",
    "backend_of",
    "is_true",
    "passes_through",
    "port_names",
    "rule_host",
    "rules_of",
    "secret_names",
    "service_port",
]

PREFIX = "nginx.ingress.kubernetes.io/"
PROTOCOL = f"{PREFIX}backend-protocol"
PASSTHROUGH = f"{PREFIX}ssl-passthrough"
SERVICE_UPSTREAM = f"{PREFIX}service-upstream"

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
"""What ingress-nginx takes for true in an annotation. (Go, strconv.ParseBool)"""


def backend_of(ingress: Manifest, host: str, path: str) -> Manifest | None:
    """Return the backend that an Ingress has for a call; None: no rule of it fits.

    :source: Kubernetes documentation, "Ingress", hostname wildcards, path types, multiple matches
    """
    if passes_through(ingress, host):
        path = "/"  # of the call itself nothing can be seen
    found = [
        (each.get("pathType") == "Exact", len(each.get("path") or "/"), each["backend"])
        for each in _paths(ingress, host)
        if _matches(each, path)
    ]
    if found:
        backend: Manifest = max(found, key=lambda each: each[:2])[2]
        return backend
    default: Manifest | None = ingress["spec"].get("defaultBackend")
    return default


def service_port(service: Manifest, backend: Manifest) -> Mapping[str, Any] | None:
    """Return the port of a Service that a backend asks for; None: it has no such port.

    By its name or number, or by its targetPort.

    :source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go, serviceEndpoints
    """
    asked = asked_port(backend)
    for port in service["spec"].get("ports") or ():
        if asked and asked in {*port_names(port), str(port.get("targetPort", ""))}:
            found: Mapping[str, Any] = port
            return found
    return None


def passes_through(ingress: Manifest, host: str) -> bool:
    """Tell whether clients' TLS for a host is to be led to the pods as it is.

    :source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go, getConfiguration;
        pkg/tcpproxy/tcp.go, TCPProxy.Get (a host is compared as it is)
    """
    return (
        is_true(ingress, PASSTHROUGH)
        and rule_host(ingress, host) == host
        and any((each.get("path") or "/") == "/" for each in _paths(ingress, host))
    )


def secret_names(ingress: Manifest) -> frozenset[str]:
    """Return the names of all Secrets in which the certificate of a host may be."""
    entries = ingress["spec"].get("tls") or ()
    return frozenset(each["secretName"] for each in entries if each.get("secretName"))


def rules_of(ingress: Manifest) -> Sequence[Mapping[str, Any]]:
    """Return the rules of an Ingress, of which there may be none."""
    rules: Sequence[Mapping[str, Any]] = ingress["spec"].get("rules") or ()
    return rules


def rule_host(ingress: Manifest, host: str) -> str:
    """Return the host as the rule has it that takes calls for *host*; empty: that of every host."""
    named = {rule.get("host") for rule in rules_of(ingress)}
    wildcard = f"*.{host.partition('.')[2]}"
    return next((each for each in (host, wildcard) if each in named), "")


def _paths(ingress: Manifest, host: str) -> Iterator[Mapping[str, Any]]:
    """Return the paths of the rules that take calls for *host*."""
    taking = rule_host(ingress, host)
    for rule in rules_of(ingress):
        if (rule.get("host") or "") == taking:
            yield from (rule.get("http") or {}).get("paths") or ()


def _matches(rule: Mapping[str, Any], path: str) -> bool:
    """Tell whether a rule's path takes a call, as `nginx_conf` has it.

    :source: ingress-nginx v1.15.1, internal/ingress/controller/location.go, updateServerLocations
    """
    given: str = rule.get("path") or "/"
    if given == path or rule.get("pathType") == "Exact":
        return given == path
    return path.startswith(given if given.endswith("/") else f"{given}/")


def asked_port(backend: Manifest) -> str:
    """Return the name or number by which a backend asks for a port."""
    asked = backend["service"].get("port") or {}
    return str(asked.get("name") or asked.get("number") or "")


def port_names(port: Mapping[str, Any]) -> set[str]:
    """Return what a Service's port is called: its name and its number."""
    return {port.get("name", ""), str(port["port"])}


def annotation(ingress: Manifest, key: str) -> str | None:
    """Return an annotation of an Ingress; None: it has none of that key."""
    given: str | None = (ingress["metadata"].get("annotations") or {}).get(key)
    return given


def is_true(ingress: Manifest, key: str) -> bool:
    """Tell whether an annotation of an Ingress is set."""
    return annotation(ingress, key) in _TRUE
