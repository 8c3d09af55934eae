"""Ingress objects to what nginx is to do. Pure: reads the store and makes a `Configuration`.

Like the real controller it is lenient: what cannot be had is left out, and said in an event on the
Ingress; the rest goes on. So a missing secret is the fake certificate, and no endpoints are a 503.

:source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.controllers.endpointslices import SLICES
from pytest_grpclb.clusters.embedded.ingress.annotations import read_annotations
from pytest_grpclb.clusters.embedded.ingress.configuration import (
    CATCH_ALL,
    Configuration,
    Location,
    Passthrough,
    Server,
    ServicePort,
    Upstream,
)
from pytest_grpclb.clusters.embedded.ingress.endpoints import endpoints, port_of
from pytest_grpclb.clusters.embedded.ingress.presented import presented

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from pytest_grpclb.clusters.embedded.ingress.annotations import Annotations
    from pytest_grpclb.clusters.embedded.ingress.configuration import Place
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = [
    "CLASS",
    "CLASSES",
    "CONTROLLER",
    "INGRESSES",
    "WATCHED",
    "Note",
    "Translation",
    "handled",
    "translate",
]

INGRESSES = "ingresses.networking.k8s.io"
CLASSES = "ingressclasses.networking.k8s.io"
WATCHED = (INGRESSES, CLASSES, "services", SLICES, "secrets")

CLASS = "nginx"
CONTROLLER = "k8s.io/ingress-nginx"
"""What an IngressClass names as its controller if its Ingresses are meant for this one."""
CLASS_ANNOTATION = "kubernetes.io/ingress.class"

_STRICT_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
"""What ingress-nginx takes as an Exact or Prefix path, unless told to be less strict."""
_QUOTABLE_PATH = re.compile(r"/[^\x00-\x1f\x7f\ud800-\udfff]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that whoever wrote an Ingress should read."""

    ingress: Object
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """What the Ingresses of a cluster come to."""

    configuration: Configuration
    ingresses: tuple[Object, ...]
    """Those that are handled here."""
    users: Mapping[ServicePort, Sequence[Object]]
    """The Ingresses that lead to a Service's port."""
    notes: tuple[Note, ...]


def handled(store: Store) -> list[Object]:
    """Return the Ingresses whose class is this controller's, the oldest first.

    :source: Kubernetes documentation, "Ingress class"
    """
    classes = {
        each["metadata"]["name"]
        for each in store.list(CLASSES)
        if each.get("spec", {}).get("controller") == CONTROLLER
    }

    def is_ours(ingress: Object) -> bool:
        named = ingress["spec"].get("ingressClassName")
        if named is None:
            legacy = (ingress["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
            return legacy == CLASS
        return named in classes

    found = [each for each in store.list(INGRESSES) if is_ours(each)]
    return sorted(found, key=lambda each: each["metadata"]["creationTimestamp"])


def translate(store: Store, *, only: Container[str] | None = None) -> Translation:
    """Return what nginx is to do about the Ingresses of class nginx.

    :param only: the UIDs of those to take up; None: all
    """
    work = _Translator(store)
    ingresses = [each for each in handled(store) if only is None or each["metadata"]["uid"] in only]
    for ingress in ingresses:
        work.add(ingress)
    return Translation(
        configuration=work.configuration(),
        ingresses=tuple(ingresses),
        users=work.users,
        notes=tuple(work.notes),
    )


class _Host:
    def __init__(self) -> None:
        self.keypair = ""
        """As in `Server`."""
        self.locations: dict[tuple[str, bool], Location] = {}
        """By path, which ends in "/" if it is a prefix, and whether it is exact."""
        self.with_tls: set[tuple[str, bool]] = set()
        """Those where plaintext is sent to https if the host turns out to have TLS."""

    def server(self, host: str, keypair: str) -> Server:
        """Return what it came to, when all Ingresses have been looked at."""
        locations = (
            replace(each, redirects=True) if keypair and key in self.with_tls else each
            for key, each in self.locations.items()
        )
        return Server(host=host, keypair=keypair, locations=tuple(locations))


class _Translator:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._hosts: dict[str, _Host] = {CATCH_ALL: _Host()}
        self._upstreams: dict[str, Upstream] = {}
        self._passthroughs: dict[str, Passthrough] = {}
        self._keypairs: dict[str, bytes] = {}
        self.users: dict[ServicePort, list[Object]] = {}
        self.notes: list[Note] = []

    def configuration(self) -> Configuration:
        return Configuration(
            servers=tuple(
                found.server(host, found.keypair or self._wildcard_keypair(host))
                for host, found in sorted(self._hosts.items())
            ),
            upstreams=tuple(self._upstreams[name] for name in sorted(self._upstreams)),
            passthroughs=tuple(self._passthroughs[host] for host in sorted(self._passthroughs)),
            keypairs=self._keypairs,
        )

    def _wildcard_keypair(self, host: str) -> str:
        """Return what a host without TLS of its own has from the wildcard that it falls under.

        :source: ingress-nginx v1.15.1, rootfs/etc/nginx/lua/certificate.lua, get_pem_cert_uid
        """
        wildcard = self._hosts.get(f"*.{host.partition('.')[2]}")
        return wildcard.keypair if wildcard else ""

    def add(self, ingress: Object) -> None:
        wanted, problems = read_annotations(ingress["metadata"].get("annotations") or {})
        for problem in problems:
            self._note(ingress, "Annotation", problem)
        spec = ingress["spec"]
        rules = spec.get("rules") or ()
        for rule in rules:
            host = rule.get("host") or CATCH_ALL
            server = self._hosts.setdefault(host, _Host())
            if host != CATCH_ALL and not server.keypair:
                server.keypair = self._certificate(ingress, host)
            for path in (rule.get("http") or {}).get("paths") or ():
                self._add_path(ingress, host, path, wanted)
        default = spec.get("defaultBackend")
        if default is not None:
            hosts = {rule.get("host") or CATCH_ALL for rule in rules} or {CATCH_ALL}
            for host in sorted(hosts):
                if ("/", False) not in self._hosts[host].locations:
                    path = {"path": "/", "pathType": "Prefix", "backend": default}
                    self._add_path(ingress, host, path, wanted)

    # --- paths

    def _add_path(
        self, ingress: Object, host: str, rule: dict[str, Any], wanted: Annotations
    ) -> None:
        path, kind = rule.get("path") or "/", rule["pathType"]
        # An ImplementationSpecific path is a Prefix but for the characters that it may have
        # (ingress-nginx v1.15.1, internal/k8s/main.go, SetDefaultNGINXPathType).
        allowed = _QUOTABLE_PATH if kind == "ImplementationSpecific" else _STRICT_PATH
        if not allowed.fullmatch(path):
            self._note(
                ingress,
                "Path",
                f"path {path!r} of host {host!r} is left out: a path of type {kind} is made of "
                "letters, digits and . _ ~ - / (strict-validate-path-type)",
            )
            return
        server = self._hosts[host]
        exact = kind == "Exact"
        key = (path if exact or path.endswith("/") else f"{path}/", exact)
        held = server.locations.get(key)
        if held is not None:
            self._note(
                ingress,
                "Path",
                f"path {path!r} of host {host!r} is left out: an older Ingress or an earlier rule "
                f"has {held.path!r} as well",
            )
            return
        service = rule["backend"].get("service")
        if service is None:
            self._note(
                ingress, "Backend", f"path {path!r} of host {host!r}: only Services are known here"
            )
            upstream = ""
        else:
            upstream = self._upstream(ingress, service, wanted)
            if wanted.ssl_passthrough:
                self._add_passthrough(ingress, host, path, service)
        if wanted.ssl_redirect:
            server.with_tls.add(key)
        server.locations[key] = Location(
            path=path,
            exact=exact,
            upstream=upstream,
            protocol=wanted.backend_protocol,
            redirects=wanted.force_ssl_redirect,
            connect_timeout_s=wanted.connect_timeout_s,
            send_timeout_s=wanted.send_timeout_s,
            read_timeout_s=wanted.read_timeout_s,
            body_size=wanted.body_size,
        )

    def _add_passthrough(
        self, ingress: Object, host: str, path: str, backend: dict[str, Any]
    ) -> None:
        if host == CATCH_ALL or host.startswith("*.") or path != "/":
            self._note(
                ingress,
                "Passthrough",
                f"ssl-passthrough of path {path!r}, host {host!r} has no effect: TLS that is not "
                "ended shows a host name and no path, so it takes a host without a wildcard and "
                'the path "/"',
            )
            return
        service, _ = self._port(ingress, backend)
        place = _cluster_place(service, _asked(backend))
        if place is not None:
            self._passthroughs.setdefault(host, Passthrough(host=host, place=place))

    # --- endpoints

    def _port(
        self, ingress: Object, backend: dict[str, Any]
    ) -> tuple[Object | None, dict[str, Any] | None]:
        namespace, name = ingress["metadata"]["namespace"], backend["name"]
        service = self._store.find("services", name, namespace)
        if service is None:
            self._note(ingress, "Backend", f"Service {name!r} is not there: 503")
            return None, None
        asked = backend.get("port") or {}
        port = port_of(service, _asked(backend))
        if port is not None:
            return service, port
        told = ", ".join(
            f"{port.get('name', '')}:{port['port']}" for port in service["spec"].get("ports") or ()
        )
        self._note(
            ingress,
            "Backend",
            f"Service {name!r} has no port {asked.get('name') or asked.get('number')!r}, it has "
            f"{told or 'none'}: 503",
        )
        return service, None

    def _upstream(self, ingress: Object, backend: dict[str, Any], wanted: Annotations) -> str:
        """Return the name of a backend's upstream.

        It is there whether or not the Service is, or has endpoints: these come and go, and nginx
        need not be told by its configuration.
        """
        namespace, name = ingress["metadata"]["namespace"], backend["name"]
        asked = ServicePort(namespace=namespace, service=name, port=_asked(backend))
        service, port = self._port(ingress, backend)
        if not asked.port:
            return ""
        full = f"{namespace}-{name}-{asked.port}"
        leads_to: ServicePort | Place = asked
        if service is not None and port is not None:
            place = _cluster_place(service, asked.port) if wanted.service_upstream else None
            if place is not None:
                full, leads_to = f"{full}-service", place
            elif not endpoints(self._store, asked):
                self._note(ingress, "Backend", f"Service {name!r} has no ready endpoint: 503")
        self._upstreams[full] = Upstream(name=full, leads_to=leads_to)
        users = self.users.setdefault(asked, [])
        if ingress not in users:
            users.append(ingress)
        return full

    # --- certificates

    def _certificate(self, ingress: Object, host: str) -> str:
        found = presented(self._store, ingress, host)
        self._keypairs.update(found.keypairs)
        for message in found.notes:
            self._note(ingress, "Certificate", message)
        return found.name

    def _note(self, ingress: Object, reason: str, message: str) -> None:
        note = Note(ingress=ingress, reason=reason, message=message)
        if note not in self.notes:
            self.notes.append(note)


def _cluster_place(service: Object | None, asked: str) -> Place | None:
    """Return where a Service is reached at its ClusterIP; None: not at all.

    A number is taken as it is, though nothing may listen there: it may be a targetPort.

    :source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go,
        getServiceClusterEndpoint
    """
    spec = service["spec"] if service else {}
    address = spec.get("clusterIP") or "None"
    if address == "None":
        return None
    if asked.isdecimal():
        return address, int(asked)
    ports = spec.get("ports") or ()
    return next(((address, port["port"]) for port in ports if port.get("name") == asked), None)


def _asked(backend: dict[str, Any]) -> str:
    """Return the name or number by which a backend of an Ingress asks for a port."""
    asked = backend.get("port") or {}
    return str(asked.get("name") or asked.get("number") or "")
