"""Ingress objects to what nginx is to do: the store in, a configuration and notes out."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pytest_grpclb.certificates import Authority, tls_secret
from pytest_grpclb.clusters.embedded.ingress.configuration import (
    FAKE_KEYPAIR,
    Location,
    Passthrough,
    Server,
    ServicePort,
    Upstream,
)
from pytest_grpclb.clusters.embedded.ingress.endpoints import endpoints as addresses
from pytest_grpclb.clusters.embedded.ingress.translate import CLASSES, INGRESSES, translate
from pytest_grpclb.clusters.embedded.store.store import Store

PREFIX = "nginx.ingress.kubernetes.io/"
AUTHORITY = Authority()


@pytest.fixture
def store() -> Store:
    store = Store(now=lambda: dt.datetime.now(dt.UTC))
    store.create(
        CLASSES, {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}
    )
    store.create(
        "services",
        {
            "metadata": {"name": "shop", "namespace": "ns"},
            "spec": {
                "clusterIP": "10.0.0.9",
                "ports": [{"name": "grpc", "port": 80, "targetPort": 50051}],
            },
        },
    )
    return store


def endpoints(store: Store, *places: tuple[str, bool | None]) -> None:
    store.create(
        "endpointslices.discovery.k8s.io",
        {
            "metadata": {
                "generateName": "shop-",
                "namespace": "ns",
                "labels": {"kubernetes.io/service-name": "shop"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": 50051}],
            "endpoints": [
                {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
                for address, ready in places
            ],
        },
    )


def backend(port: dict[str, Any]) -> dict[str, Any]:
    return {"service": {"name": "shop", "port": port}}


GRPC = backend({"name": "grpc"})


def ingress(
    store: Store,
    *rules: tuple[str, str, str],
    name: str = "web",
    to: dict[str, Any] = GRPC,
    spec: dict[str, Any] | None = None,
    **annotations: str,
) -> None:
    store.create(
        INGRESSES,
        {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "annotations": {
                    PREFIX + key.replace("_", "-"): value for key, value in annotations.items()
                },
            },
            "spec": {
                "ingressClassName": "nginx",
                "rules": [
                    {
                        "host": host,
                        "http": {"paths": [{"path": path, "pathType": kind, "backend": to}]},
                    }
                    for host, path, kind in rules
                ],
                **(spec or {}),
            },
        },
    )


def location(**changed: Any) -> Location:
    fields: dict[str, Any] = {
        "path": "/",
        "exact": False,
        "upstream": "ns-shop-grpc",
        "protocol": "HTTP",
        "redirects": False,
        "connect_timeout_s": 5,
        "send_timeout_s": 60,
        "read_timeout_s": 60,
        "body_size": "1m",
    }
    return Location(**(fields | changed))


def said(store: Store) -> list[str]:
    return [f"{note.reason}: {note.message}" for note in translate(store).notes]


def test_a_host_leads_to_the_endpoints_of_its_service(store: Store) -> None:
    endpoints(store, ("10.1.0.1", None))
    ingress(store, ("a.example.com", "/", "Prefix"), backend_protocol="GRPC")
    told = translate(store)
    port = ServicePort(namespace="ns", service="shop", port="grpc")
    assert told.configuration.upstreams == (Upstream(name="ns-shop-grpc", leads_to=port),)
    assert {key: list(using) for key, using in told.users.items()} == {port: list(told.ingresses)}
    assert told.configuration.servers == (
        Server(host="_", keypair="", locations=()),
        Server(host="a.example.com", keypair="", locations=(location(protocol="GRPC"),)),
    )
    assert told.notes == ()


def test_a_port_is_found_by_number_as_well(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), to=backend({"number": 80}))
    told = translate(store)
    [_, server] = told.configuration.servers
    assert server.locations == (location(upstream="ns-shop-80"),)
    assert told.notes == ()


def test_what_nginx_is_told_stays_the_same_whatever_becomes_of_the_pods(store: Store) -> None:
    """Else it would be reloaded, which costs calls."""
    ingress(store, ("a.example.com", "/", "Prefix"))
    first = translate(store).configuration
    endpoints(store, ("10.1.0.1", True))
    assert translate(store).configuration == first
    store.delete("services", "shop", "ns")
    assert translate(store).configuration == first
    assert said(store) == ["Backend: Service 'shop' is not there: 503"]


def test_service_upstream_leads_to_the_cluster_ip(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), service_upstream="true")
    [upstream] = translate(store).configuration.upstreams
    assert upstream == Upstream(name="ns-shop-grpc-service", leads_to=("10.0.0.9", 80))


def test_a_port_is_found_by_its_target_port_as_well(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), to=backend({"number": 50051}))
    told = translate(store)
    [port] = told.users
    assert addresses(store, port) == (("10.1.0.1", 50051),)
    assert told.notes == ()


def test_the_cluster_ip_knows_no_target_ports(store: Store) -> None:
    """Nothing listens there: ingress-nginx takes the number as it is."""
    endpoints(store, ("10.1.0.1", True))
    to = backend({"number": 50051})
    ingress(store, ("a.example.com", "/", "Prefix"), to=to, service_upstream="true")
    ingress(store, ("b.example.com", "/", "Prefix"), name="b", to=to, ssl_passthrough="true")
    told = translate(store).configuration
    assert [each.leads_to for each in told.upstreams if each.name.endswith("-service")] == [
        ("10.0.0.9", 50051)
    ]
    assert [each.place for each in told.passthroughs] == [("10.0.0.9", 50051)]


def test_without_ready_endpoints_it_is_said_what_is_answered(store: Store) -> None:
    endpoints(store, ("10.1.0.1", False))
    ingress(store, ("a.example.com", "/", "Prefix"))
    assert said(store) == ["Backend: Service 'shop' has no ready endpoint: 503"]


def test_a_port_that_is_not_there_is_said_with_those_that_are(store: Store) -> None:
    ingress(store, ("a.example.com", "/", "Prefix"), to=backend({"number": 81}))
    assert said(store) == ["Backend: Service 'shop' has no port 81, it has grpc:80: 503"]


def test_ingresses_of_other_classes_are_not_touched(store: Store) -> None:
    store.create(CLASSES, {"metadata": {"name": "other"}, "spec": {"controller": "example.com/x"}})
    ingress(store, ("a.example.com", "/", "Prefix"), spec={"ingressClassName": "other"})
    ingress(
        store, ("b.example.com", "/", "Prefix"), name="none", spec={"ingressClassName": "nginxx"}
    )
    told = translate(store)
    assert told.ingresses == ()
    assert [server.host for server in told.configuration.servers] == ["_"]


def test_the_old_class_annotation_still_counts(store: Store) -> None:
    store.create(
        INGRESSES,
        {
            "metadata": {
                "name": "old",
                "namespace": "ns",
                "annotations": {"kubernetes.io/ingress.class": "nginx"},
            },
            "spec": {"rules": [{"host": "old.example.com"}]},
        },
    )
    assert [each["metadata"]["name"] for each in translate(store).ingresses] == ["old"]


def test_the_older_ingress_has_a_path_that_two_want(store: Store) -> None:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    store.now = lambda: now
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), name="second-by-name")
    now += dt.timedelta(seconds=1)
    ingress(store, ("a.example.com", "/", "Prefix"), name="first", backend_protocol="GRPC")
    [_, server] = translate(store).configuration.servers
    assert server.locations == (location(),)
    assert said(store) == [
        "Path: path '/' of host 'a.example.com' is left out: an older Ingress or an earlier rule "
        "has '/' as well"
    ]


def test_a_path_with_characters_that_mean_something_to_nginx_is_left_out(store: Store) -> None:
    ingress(store, ("a.example.com", '/a"; return 200; "', "Prefix"))
    [_, server] = translate(store).configuration.servers
    assert server.locations == ()
    assert said(store) == [
        "Path: path '/a\"; return 200; \"' of host 'a.example.com' is left out: a path of type "
        "Prefix is made of letters, digits and . _ ~ - / (strict-validate-path-type)"
    ]


def test_a_default_backend_stands_in_where_no_path_is(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/x", "Exact"), spec={"defaultBackend": GRPC})
    [_, server] = translate(store).configuration.servers
    assert server.locations == (location(path="/x", exact=True), location())


# --- certificates


def with_secret(store: Store, host: str, names: tuple[str, ...], **issued: bool) -> None:
    secret = tls_secret("tls", AUTHORITY.issue(*names, **issued))
    store.create("secrets", {**secret, "metadata": {"name": "tls", "namespace": "ns"}})
    endpoints(store, ("10.1.0.1", True))
    ingress(store, (host, "/", "Prefix"), spec={"tls": [{"hosts": [host], "secretName": "tls"}]})


@pytest.mark.parametrize("names", [("a.example.com",), ("x.example.org", "*.example.com")])
def test_a_certificate_that_covers_the_host_is_presented(
    store: Store, names: tuple[str, ...]
) -> None:
    with_secret(store, "a.example.com", names)
    told = translate(store)
    [_, server] = told.configuration.servers
    assert server.keypair == "ns_tls"
    assert server.locations == (location(redirects=True),)
    assert b"PRIVATE KEY" in told.configuration.keypairs["ns_tls"]
    assert "PRIVATE KEY" not in repr(told.configuration)
    assert told.notes == ()


def test_an_expired_certificate_is_presented_all_the_same(store: Store) -> None:
    with_secret(store, "a.example.com", ("a.example.com",), expired=True)
    [_, server] = translate(store).configuration.servers
    assert server.keypair == "ns_tls"
    [note] = said(store)
    assert note.startswith(
        "Certificate: the certificate in secret 'tls' for host 'a.example.com' expired at "
    )
    assert note.endswith(" UTC; it is presented all the same")


def test_a_certificate_for_another_host_is_not(store: Store) -> None:
    with_secret(store, "a.b.example.com", ("*.example.com",))  # a wildcard is one label
    [_, server] = translate(store).configuration.servers
    assert server.keypair == FAKE_KEYPAIR
    assert server.locations == (location(redirects=True),)  # TLS is what was asked for
    assert said(store) == [
        "Certificate: host 'a.b.example.com' gets the 'Kubernetes Ingress Controller Fake "
        "Certificate': the certificate in secret 'tls' is for *.example.com, not for "
        "'a.b.example.com'"
    ]


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (None, "there is no secret 'tls' in namespace 'ns'"),
        (
            {"type": "Opaque", "data": {"a.key": "eA==", "tls.key": "eA=="}},
            "secret 'tls' cannot be used: its type is 'Opaque', not 'kubernetes.io/tls', and it "
            "has no tls.crt (it has a.key, tls.key)",
        ),
        (
            {"type": "Opaque"},
            "secret 'tls' cannot be used: its type is 'Opaque', not 'kubernetes.io/tls', and it "
            "has no tls.crt and no tls.key (it has nothing)",
        ),
        (
            {"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}},
            "secret 'tls' cannot be used: it has no tls.key (it has tls.crt)",
        ),
        (
            {"type": "kubernetes.io/tls", "data": {"tls.crt": "eA==", "tls.key": "eA=="}},
            "secret 'tls' cannot be used: its tls.crt and tls.key are not PEM that can be read",
        ),
    ],
)
def test_without_a_usable_secret_it_is_the_fake_certificate(
    store: Store, secret: dict[str, Any] | None, why: str
) -> None:
    endpoints(store, ("10.1.0.1", True))
    if secret is not None:
        store.create("secrets", {"metadata": {"name": "tls", "namespace": "ns"}, **secret})
    host = "a.example.com"
    ingress(store, (host, "/", "Prefix"), spec={"tls": [{"hosts": [host], "secretName": "tls"}]})
    assert said(store) == [
        "Certificate: host 'a.example.com' gets the 'Kubernetes Ingress Controller Fake "
        f"Certificate': {why}"
    ]
    [_, server] = translate(store).configuration.servers
    assert server.keypair == FAKE_KEYPAIR
    assert server.locations == (location(redirects=True),)


def test_a_secret_of_another_namespace_is_not_seen(store: Store) -> None:
    secret = tls_secret("tls", AUTHORITY.issue("a.example.com"))
    store.create("secrets", {**secret, "metadata": {"name": "tls", "namespace": "other"}})
    endpoints(store, ("10.1.0.1", True))
    host = "a.example.com"
    ingress(store, (host, "/", "Prefix"), spec={"tls": [{"hosts": [host], "secretName": "tls"}]})
    [note] = said(store)
    assert note.endswith("there is no secret 'tls' in namespace 'ns'")


def test_a_host_that_no_entry_lists_gets_a_certificate_that_covers_it(store: Store) -> None:
    secret = tls_secret("tls", AUTHORITY.issue("*.example.com"))
    store.create("secrets", {**secret, "metadata": {"name": "tls", "namespace": "ns"}})
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), spec={"tls": [{"secretName": "tls"}]})
    [_, server] = translate(store).configuration.servers
    assert server.keypair == "ns_tls"


def test_a_host_that_nothing_covers_gets_the_fake_certificate(store: Store) -> None:
    secret = tls_secret("tls", AUTHORITY.issue("*.example.org"))
    store.create("secrets", {**secret, "metadata": {"name": "tls", "namespace": "ns"}})
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), spec={"tls": [{"secretName": "tls"}]})
    [_, server] = translate(store).configuration.servers
    assert server.keypair == FAKE_KEYPAIR
    assert said(store) == [
        "Certificate: host 'a.example.com' gets the 'Kubernetes Ingress Controller Fake "
        "Certificate': no entry of spec.tls lists the host, and no certificate there covers it"
    ]


def test_tls_without_a_secret_is_the_fake_certificate(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    host = "a.example.com"
    ingress(store, (host, "/", "Prefix"), spec={"tls": [{"hosts": [host]}]})
    [_, server] = translate(store).configuration.servers
    assert server.locations == (location(redirects=True),)
    assert said(store) == [
        "Certificate: host 'a.example.com' gets the 'Kubernetes Ingress Controller Fake "
        "Certificate': its entry of spec.tls has no secretName"
    ]


def test_a_host_has_tls_whichever_of_its_ingresses_asks_for_it(store: Store) -> None:
    now = dt.datetime.now(dt.UTC)
    store.now = lambda: now
    endpoints(store, ("10.1.0.1", True))
    host = "a.example.com"
    ingress(store, (host, "/", "Prefix"))
    ingress(store, (host, "/plain", "Prefix"), name="plain", ssl_redirect="false")
    now += dt.timedelta(seconds=1)
    tls = [{"hosts": [host], "secretName": "none"}]
    ingress(store, (host, "/x", "Prefix"), name="later", spec={"tls": tls})
    [_, server] = translate(store).configuration.servers
    assert server.keypair == FAKE_KEYPAIR
    redirects = {each.path: each.redirects for each in server.locations}
    assert redirects == {"/": True, "/plain": False, "/x": True}


def test_a_host_without_tls_has_that_of_the_wildcard_it_falls_under(store: Store) -> None:
    with_secret(store, "*.example.com", ("*.example.com",))
    for host in ("a.example.com", "a.b.example.com"):
        ingress(store, (host, "/", "Prefix"), name=host)
    servers = {each.host: each for each in translate(store).configuration.servers}
    assert servers["a.example.com"].keypair == "ns_tls"
    assert servers["a.example.com"].locations == (location(redirects=True),)
    assert servers["a.b.example.com"].keypair == ""
    assert servers["a.b.example.com"].locations == (location(),)


def test_secrets_of_two_namespaces_are_never_taken_for_each_other(store: Store) -> None:
    hosts = {("a-b", "c"): "one.example.com", ("a", "b-c"): "two.example.com"}
    for (namespace, secret), host in hosts.items():
        made = tls_secret(secret, AUTHORITY.issue(host))
        metadata = {"name": secret, "namespace": namespace}
        store.create("secrets", {**made, "metadata": metadata})
        spec = {
            "ingressClassName": "nginx",
            "tls": [{"hosts": [host], "secretName": secret}],
            "rules": [{"host": host}],
        }
        store.create(INGRESSES, {"metadata": {"name": "web", "namespace": namespace}, "spec": spec})
    told = translate(store).configuration
    assert {each.host: each.keypair for each in told.servers} == {
        "_": "",
        "one.example.com": "a-b_c",
        "two.example.com": "a_b-c",
    }
    assert len(told.keypairs) == 2


def test_a_path_that_is_implementation_specific_is_a_prefix(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/a", "ImplementationSpecific"))
    ingress(store, ("a.example.com", "/a/", "Prefix"), name="web-2")
    [_, server] = translate(store).configuration.servers
    assert server.locations == (location(path="/a"),)
    assert said(store) == [
        "Path: path '/a/' of host 'a.example.com' is left out: an older Ingress or an earlier rule "
        "has '/a' as well"
    ]


def test_force_ssl_redirect_needs_no_certificate(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), force_ssl_redirect="true")
    [_, server] = translate(store).configuration.servers
    assert server.locations == (location(redirects=True),)


def test_passthrough_leads_to_the_cluster_ip(store: Store) -> None:
    endpoints(store, ("10.1.0.1", True))
    ingress(store, ("a.example.com", "/", "Prefix"), ssl_passthrough="true")
    ingress(store, ("b.example.com", "/x", "Prefix"), name="path", ssl_passthrough="true")
    ingress(store, ("*.example.com", "/", "Prefix"), name="wild", ssl_passthrough="true")
    told = translate(store)
    assert told.configuration.passthroughs == (
        Passthrough(host="a.example.com", place=("10.0.0.9", 80)),
    )
    assert said(store) == [
        f"Passthrough: ssl-passthrough of path {path!r}, host {host!r} has no effect: TLS that is "
        "not ended shows a host name and no path, so it takes a host without a wildcard and the "
        'path "/"'
        for path, host in (("/x", "b.example.com"), ("/", "*.example.com"))
    ]
