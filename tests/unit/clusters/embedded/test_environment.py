"""Environment variables of containers."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.node.environment import (
    ConfigError,
    expand,
    field_of,
    variables,
)
from pytest_grpclb.clusters.embedded.store.store import Store

POD = {
    "metadata": {
        "name": "greeter-1",
        "namespace": "test",
        "uid": "u-1",
        "labels": {"app": "greeter", "zone/name": "a"},
        "annotations": {"note": "hello"},
    },
    "spec": {"nodeName": "embedded", "serviceAccountName": "robot"},
    "status": {"podIP": "127.9.1.1", "hostIP": "127.9.0.2"},
}


@pytest.fixture
def store() -> Store:
    store = Store()
    store.create(
        "configmaps",
        {
            "metadata": {"name": "settings", "namespace": "test"},
            "data": {"LEVEL": "7", "MODE": "x"},
        },
    )
    store.create(
        "secrets",
        {"metadata": {"name": "keys", "namespace": "test"}, "data": {"TOKEN": "c2VjcmV0"}},
    )
    return store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)-$(B)y", "x1-2y"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(MISSING)", "$(MISSING)"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
        ("100$", "100$"),
    ],
)
def test_references_are_expanded_as_kubernetes_documents(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "greeter-1"),
        ("metadata.namespace", "test"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['zone/name']", "a"),
        ("metadata.labels['missing']", ""),
        ("metadata.annotations['note']", "hello"),
        ("metadata.labels", 'app="greeter"\nzone/name="a"'),
        ("spec.nodeName", "embedded"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "127.9.1.1"),
        ("status.hostIP", "127.9.0.2"),
    ],
)
def test_fields_of_the_downward_api(path: str, expected: str) -> None:
    assert field_of(POD, path) == expected


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        field_of(POD, "status.phase")
    assert str(caught.value) == "fieldRef 'status.phase': the downward API has no such field"


def test_later_sources_win_and_refer_to_earlier_ones(store: Store) -> None:
    container: dict[str, Any] = {
        "envFrom": [
            {"configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "keys"}, "prefix": "P_"},
        ],
        "env": [
            {"name": "MODE", "value": "y"},
            {"name": "BOTH", "value": "$(MODE)$(LEVEL)$(P_TOKEN)$(BASE)"},
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {
                "name": "KEY",
                "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}},
            },
            {
                "name": "NONE",
                "valueFrom": {"configMapKeyRef": {"name": "missing", "key": "a", "optional": True}},
            },
            {"name": "EMPTY"},
        ],
    }
    assert variables(store, POD, container, {"BASE": "b", "LEVEL": "0"}) == {
        "BASE": "b",
        "LEVEL": "7",
        "MODE": "y",
        "P_TOKEN": "secret",
        "BOTH": "y7secretb",
        "WHO": "greeter-1",
        "KEY": "secret",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "a"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "a"}}, 'secret "no" not found'),
        (
            {"configMapKeyRef": {"name": "settings", "key": "a"}},
            "couldn't find key a in ConfigMap test/settings",
        ),
        (
            {"resourceFieldRef": {"resource": "limits.cpu"}},
            "valueFrom resourceFieldRef: the embedded cluster knows fieldRef, configMapKeyRef and "
            "secretKeyRef",
        ),
    ],
)
def test_what_is_missing_is_named(store: Store, source: dict[str, Any], message: str) -> None:
    container = {"env": [{"name": "A", "valueFrom": source}]}
    with pytest.raises(ConfigError) as caught:
        variables(store, POD, container, {})
    assert str(caught.value) == message
