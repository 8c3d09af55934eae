"""Which certificate a host presents, and where plaintext is redirected for it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.certificates import tls_secret
from pytest_grpclb.clusters.embedded.ingress.configuration import (
    FAKE_KEYPAIR,
)
from pytest_grpclb.clusters.embedded.ingress.translate import INGRESSES, translate

from .made_ingresses import AUTHORITY, endpoints, ingress, location, said

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Store


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
