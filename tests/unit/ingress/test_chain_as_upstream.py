"""Preflight takes what ingress-nginx takes: certificates, ports and passed-through TLS."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pytest_grpclb.certificates import tls_secret
from pytest_grpclb.ingress.chain import Spoken, mismatches
from pytest_grpclb.ingress.rules import backend_of, passes_through, secret_names, service_port

from .test_chain import AUTHORITY, HOST, PATH, facts, ingress, rule

WEB = rule(HOST, ("/", "Prefix", "shop"))
PREFIX = "nginx.ingress.kubernetes.io/"
PROTOCOL = {f"{PREFIX}backend-protocol": "GRPC"}
PASSTHROUGH = {f"{PREFIX}ssl-passthrough": "true"}


def annotated(made: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    return {**made, "metadata": {**made["metadata"], "annotations": annotations}}


def secret(name: str, *names: str) -> dict[str, Any]:
    made = tls_secret(name, AUTHORITY.issue(*names))
    return {**made, "metadata": {"name": name, "namespace": "ns"}}


# --- which Secret a host has


@pytest.mark.parametrize(
    "tls",
    [
        [{"hosts": ["*.example.com"], "secretName": "tls"}],
        [{"secretName": "tls"}],
        [{"hosts": ["b.example.com"], "secretName": "tls"}],
        [{"hosts": ["b.example.com"]}, {"secretName": "none"}, {"secretName": "tls"}],
    ],
)
def test_a_secret_whose_certificate_covers_the_host_need_not_list_it(
    tls: list[dict[str, Any]],
) -> None:
    assert mismatches(facts(ingress(WEB, tls=tls))) == []


def test_a_host_under_a_wildcard_rule_has_that_rules_certificate() -> None:
    wild = rule("*.example.com", ("/", "Prefix", "shop"))
    tls = [{"hosts": ["*.example.com"], "secretName": "tls"}]
    assert mismatches(facts(ingress(wild, tls=tls))) == []
    narrow = facts(ingress(wild, tls=tls), secrets=[secret("tls", HOST)])
    assert mismatches(narrow) == [
        "the certificate in Secret 'tls' is for a.example.com, not for '*.example.com', so clients "
        "get the controller's fake certificate; issue it for that host"
    ]


def test_a_rule_for_every_host_has_no_certificate_of_its_own() -> None:
    assert mismatches(facts(ingress(rule("", ("/", "Prefix", "shop"))))) == [
        "no rule of spec.rules has the host 'a.example.com' or a wildcard for it, so clients get "
        "the controller's fake certificate; give the rule that host"
    ]


def test_which_secret_a_host_has_is_not_guessed_where_none_may_be_read() -> None:
    assert mismatches(facts(ingress(WEB, tls=[{"secretName": "tls"}]), secrets=None)) == []


def test_all_secrets_that_an_ingress_names_are_asked_for() -> None:
    made = ingress(WEB, tls=[{"hosts": [HOST]}, {"secretName": "one"}, {"secretName": "two"}])
    assert secret_names(made) == {"one", "two"}


# --- which port a number means


def service(port: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "shop"}, "spec": {"selector": {"app": "shop"}, "ports": [port]}}


def leads_to(port: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(ingress(WEB))
    made["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = port
    return made


@pytest.mark.parametrize(
    ("asked", "target"),
    [({"number": 50051}, 50051), ({"name": "rpc"}, "rpc"), ({"number": 80}, 50051)],
)
def test_a_port_is_found_by_the_target_port_as_well(asked: dict[str, Any], target: Any) -> None:
    found = service({"name": "grpc", "port": 80, "targetPort": target})
    assert service_port(found, {"service": {"name": "shop", "port": asked}}) is not None
    assert mismatches(facts(leads_to(asked), service=found)) == []


@pytest.mark.parametrize("annotation", ["service-upstream", "ssl-passthrough"])
def test_the_cluster_ip_has_no_target_ports(annotation: str) -> None:
    made = annotated(leads_to({"number": 50051}), {**PROTOCOL, f"{PREFIX}{annotation}": "true"})
    assert mismatches(facts(made)) == [
        f"backend.service.port is 50051, and with the annotation {PREFIX}{annotation} calls go to "
        "the ClusterIP of Service 'shop', which has only grpc:80; name one of these"
    ]


# --- passed-through TLS


def test_passed_through_tls_needs_pods_that_speak_it() -> None:
    made = annotated(ingress(WEB), {**PROTOCOL, **PASSTHROUGH})
    assert mismatches(facts(made)) == [
        f"annotation {PREFIX}ssl-passthrough is 'true', so that pods get clients' TLS as it is, "
        "but pod 'shop-1' speaks HTTP/2 in plaintext on targetPort 50051; serve TLS there, or "
        "remove the annotation"
    ]


@pytest.mark.parametrize("annotations", [PASSTHROUGH, PROTOCOL | PASSTHROUGH])
def test_passed_through_tls_needs_no_secret_and_no_protocol(annotations: dict[str, str]) -> None:
    made = annotated(ingress(WEB, tls=[]), annotations)
    assert mismatches(facts(made, spoken={"shop-1": Spoken.TLS}, secrets=[])) == []


def test_passed_through_tls_leads_to_the_backend_of_the_root() -> None:
    paths = [("/", "Prefix", "shop"), (PATH, "Exact", "other")]
    made = annotated(ingress(rule(HOST, *paths)), PASSTHROUGH)
    found = backend_of(made, HOST, PATH)
    assert found is not None
    assert found["service"]["name"] == "shop"


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (ingress(WEB), "yes"),  # not what ingress-nginx takes for true
        (ingress(rule("", ("/", "Prefix", "shop"))), "true"),
        (ingress(rule("*.example.com", ("/", "Prefix", "shop"))), "true"),
        (ingress(rule(HOST, (PATH, "Prefix", "shop"))), "true"),
    ],
)
def test_tls_is_not_passed_through_without_a_host_and_the_root(
    made: dict[str, Any], value: str
) -> None:
    assert not passes_through(annotated(made, {f"{PREFIX}ssl-passthrough": value}), HOST)


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        (None, True),  # not known
        (["/nginx-ingress-controller", "--enable-ssl-passthrough"], True),
        (["--enable-ssl-passthrough=true"], True),
        (["--enable-ssl-passthrough=false"], False),
        (["/nginx-ingress-controller"], False),
    ],
)
def test_passed_through_tls_needs_a_flag_of_the_controller(
    arguments: list[str] | None, fits: bool
) -> None:
    made = annotated(ingress(WEB), PASSTHROUGH)
    told = mismatches(facts(made, spoken={"shop-1": Spoken.TLS}, arguments=arguments))
    assert told == (
        []
        if fits
        else [
            f"annotation {PREFIX}ssl-passthrough is 'true', and the controller runs without "
            "--enable-ssl-passthrough, so that it ends TLS itself; start it with that flag"
        ]
    )


# --- prefixes


def test_a_prefix_with_a_slash_at_its_end_is_not_met_without_it() -> None:
    """nginx sends such calls to the path with the slash, and gRPC does not follow."""
    assert mismatches(facts(ingress(rule(HOST, (f"{PATH}/", "Prefix", "shop"))))) == [
        "spec.rules has no path for '/helloworld.Greeter/SayHello' of host 'a.example.com' "
        "(hosts: 'a.example.com'), which is answered with 404; add one, such as the Prefix '/'"
    ]
