"""Names, labels and prefixes as Kubernetes allows them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.api.defaults import with_defaults
from pytest_grpclb.clusters.embedded.api.pod_validation import port_name_problem
from pytest_grpclb.clusters.embedded.store.names import (
    dns_label,
    dns_subdomain,
    label_problems,
    path_segment,
    service_name,
)

from .test_validation import complaints, pod


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (dns_label, ["a", "a-1", "1a", "a" * 63], ["", "A", "a.b", "-a", "a-", "a" * 64]),
        (dns_subdomain, ["a.b", "1.a-b"], ["", "a..b", "a_b", "a" * 254]),
        (service_name, ["a", "a-1"], ["1a", "a.b", "a" * 64]),
        (path_segment, ["a", "A:b", ""], [".", "..", "a/b", "a%b"]),
        (port_name_problem, ["grpc", "a-1"], ["", "1", "a--b", "-a", "a-", "A", "a" * 16]),
    ],
)
def test_names(check: Any, good: list[str], bad: list[str]) -> None:
    assert [name for name in good if check(name)] == []
    assert [name for name in bad if not check(name)] == []


def test_labels() -> None:
    good = {"a": "", "a.b/c_D-e": "V_1.x", "x" * 63: "y" * 63}
    assert label_problems(good) == []
    bad = {"a b": "1", "/a": "1", "A_/a": "1", "a": "b c", "x" * 64: "1", "y": "z" * 64}
    assert [culprit for culprit, _ in label_problems(bad)] == [
        "a b",
        "/a",
        "A_/a",
        "b c",
        "x" * 64,
        "z" * 64,
    ]


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("services", "1web", "a DNS-1035 label must consist of"),
        ("namespaces", "a.b", "a lowercase RFC 1123 label must consist of"),
        ("configmaps", "A", "a lowercase RFC 1123 subdomain must consist of"),
        ("roles.rbac.authorization.k8s.io", "a/b", "may not contain '/'"),
    ],
)
def test_each_kind_has_its_rule_for_names(kind: str, name: str, why: str) -> None:
    obj = with_defaults(kind, {"metadata": {"name": name}, "spec": {"ports": [{"port": 1}]}})
    found = complaints(kind, obj)
    assert len(found) == 1
    assert found[0].startswith(f'metadata.name: Invalid value: "{name}": {why}')


def test_a_prefix_for_names_may_end_in_a_hyphen() -> None:
    spec = pod()["spec"]
    assert complaints("pods", {"metadata": {"generateName": "web-"}, "spec": spec}) == []
    found = complaints("pods", {"metadata": {"generateName": "Web-"}, "spec": spec})
    assert found[0].startswith('metadata.generateName: Invalid value: "Web-": a lowercase')
