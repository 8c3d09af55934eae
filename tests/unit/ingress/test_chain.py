"""Preflight beyond the cluster tests: which rule a call meets, and breaks that are rare."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pytest_grpclb.certificates import Authority, tls_secret
from pytest_grpclb.ingress.chain import Facts, Spoken, mismatches
from pytest_grpclb.ingress.rules import backend_of

HOST = "a.example.com"
PATH = "/helloworld.Greeter/SayHello"
AUTHORITY = Authority()
SECRET = tls_secret("tls", AUTHORITY.issue("*.example.com")) | {
    "metadata": {"name": "tls", "namespace": "ns"}
}
CLASS = {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}


def rule(host: str, *paths: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "host": host,
        "http": {
            "paths": [
                {
                    "path": path,
                    "pathType": kind,
                    "backend": {"service": {"name": name, "port": {"name": "grpc"}}},
                }
                for path, kind, name in paths
            ]
        },
    }


def ingress(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web",
            "namespace": "ns",
            "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"},
        },
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{"hosts": [HOST], "secretName": "tls"}],
            "rules": list(rules),
            **spec,
        },
    }


def facts(made: dict[str, Any] | None = None, **changed: Any) -> Facts:
    """Return facts in which all fits, but for what is given."""
    fields: dict[str, Any] = {
        "ingress": made or ingress(rule(HOST, ("/", "Prefix", "shop"))),
        "host": HOST,
        "path": PATH,
        "now": dt.datetime.now(dt.UTC),
        "classes": [CLASS],
        "service": {
            "metadata": {"name": "shop"},
            "spec": {
                "selector": {"app": "shop"},
                "ports": [{"name": "grpc", "port": 80, "targetPort": 50051}],
            },
        },
        "slices": [
            {
                "ports": [{"name": "grpc", "port": 50051}],
                "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": True}}],
            }
        ],
        "secrets": [SECRET],
        "spoken": {"shop-1": Spoken.PLAINTEXT},
    }
    return Facts(**(fields | changed))


def chosen(*rules: dict[str, Any], host: str = HOST, path: str = PATH) -> str | None:
    found = backend_of(ingress(*rules), host, path)
    return None if found is None else found["service"]["name"]


def test_where_all_fits_there_is_nothing_to_say() -> None:
    assert mismatches(facts()) == []


def test_what_may_not_be_read_is_no_mismatch() -> None:
    assert mismatches(facts(classes=None, secrets=None, spoken={})) == []


def test_an_exact_host_comes_before_a_wildcard_and_that_before_none() -> None:
    rules = [
        rule("", ("/", "Prefix", "any")),
        rule("*.example.com", ("/", "Prefix", "wild")),
        rule(HOST, ("/", "Prefix", "exact")),
    ]
    assert chosen(*rules) == "exact"
    assert chosen(*rules[:2]) == "wild"
    assert chosen(*rules[:1]) == "any"
    assert chosen(*rules[1:], host="a.b.example.com") is None


def test_an_exact_path_comes_before_a_prefix_and_a_long_one_before_a_short() -> None:
    paths = [
        ("/", "Prefix", "all"),
        ("/helloworld.Greeter", "Prefix", "service"),
        (PATH, "Exact", "method"),
    ]
    assert chosen(rule(HOST, *paths)) == "method"
    assert chosen(rule(HOST, *paths[:2])) == "service"
    assert chosen(rule(HOST, ("/helloworld.Greet", "Prefix", "x"))) is None


def test_a_call_that_no_path_takes_is_a_404() -> None:
    made = ingress(rule(HOST, ("/other.Service", "Prefix", "shop")))
    assert mismatches(facts(made)) == [
        "spec.rules has no path for '/helloworld.Greeter/SayHello' of host 'a.example.com' "
        "(hosts: 'a.example.com'), which is answered with 404; add one, such as the Prefix '/'"
    ]


def test_a_class_of_another_controller_is_named() -> None:
    other = {"metadata": {"name": "other"}, "spec": {"controller": "example.com/x"}}
    made = ingress(rule(HOST, ("/", "Prefix", "shop")), ingressClassName="other")
    assert mismatches(facts(made, classes=[CLASS, other])) == [
        "spec.ingressClassName is 'other', whose controller is 'example.com/x'; set it "
        "(--grpclb-ingress-class) to one of the IngressClasses of k8s.io/ingress-nginx: nginx"
    ]
    # Where calls are answered it is an ingress-nginx with a name of its own (--controller-class).
    assert mismatches(facts(made, classes=[CLASS, other], failing=False)) == []


@pytest.mark.parametrize(
    "tls", [[], [{"hosts": [HOST]}], [{"hosts": ["b.example.org"], "secretName": "other"}]]
)
def test_a_host_without_a_secret_is_named(tls: list[dict[str, Any]]) -> None:
    other = tls_secret("other", AUTHORITY.issue("b.example.org"))
    secrets = [SECRET, {**other, "metadata": {"name": "other", "namespace": "ns"}}]
    made = ingress(rule(HOST, ("/", "Prefix", "shop")), tls=tls)
    assert mismatches(facts(made, secrets=secrets)) == [
        "spec.tls names no Secret for the host 'a.example.com', so clients get the controller's "
        "fake certificate; list the host there, with a secretName"
    ]


def test_a_port_that_speaks_something_else_is_named() -> None:
    assert mismatches(facts(spoken={"shop-1": Spoken.UNKNOWN})) == [
        "pod 'shop-1' speaks neither HTTP/2 nor TLS on targetPort 50051 of Service 'shop'; lead it "
        "to the port that serves gRPC"
    ]


def test_the_controllers_own_complaint_comes_first() -> None:
    told = mismatches(facts(complaints=["no nginx is on this machine"], secrets=[]))
    assert told[0] == "no nginx is on this machine"
    assert len(told) == 2
