"""Ingress objects to what nginx is to do: the store in, a configuration and notes out."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.ingress.configuration import (
    Passthrough,
    Server,
    ServicePort,
    Upstream,
)
from pytest_grpclb.clusters.embedded.ingress.endpoints import endpoints as addresses
from pytest_grpclb.clusters.embedded.ingress.translate import CLASSES, INGRESSES, translate

from .made_ingresses import GRPC, backend, endpoints, ingress, location, said

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Store


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
