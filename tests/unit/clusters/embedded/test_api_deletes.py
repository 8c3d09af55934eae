"""Deleting objects through the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .test_api import CONFIGS, DEPLOYMENTS, PODS, Json, config, deployment, pod

if TYPE_CHECKING:
    from .conftest import Client


# --- deleting


def test_deletion_is_told_by_status_or_by_the_object(client: Client) -> None:
    made = client.make(CONFIGS, config())
    assert client.ask("DELETE", f"{CONFIGS}/a") == (
        200,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]},
        },
    )
    client.make(PODS, pod())
    _, told = client.ask("DELETE", f"{PODS}/a")
    assert told["kind"] == "Pod"
    assert client.refused("DELETE", f"{PODS}/a")[0] == 404


def test_a_running_pod_gets_the_grace_that_is_asked_for(client: Client) -> None:
    in_body: tuple[Any, dict[str, str]] = ({"gracePeriodSeconds": 5}, {})
    in_query: tuple[Any, dict[str, str]] = (None, {"gracePeriodSeconds": "5"})
    for number, (body, query) in enumerate([in_body, in_query]):
        bound = {**pod(f"p{number}"), "spec": {**pod()["spec"], "nodeName": "node"}}
        client.make(PODS, bound)
        _, told = client.ask("DELETE", f"{PODS}/p{number}", body, **query)
        assert told["metadata"]["deletionGracePeriodSeconds"] == 5
        assert told["metadata"]["deletionTimestamp"] == "2026-01-31T12:00:05Z"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            {"propagationPolicy": "Sideways"},
            400,
            "propagationPolicy 'Sideways' is none of Background, Foreground, Orphan",
        ),
        ({"gracePeriodSeconds": -1}, 400, "gracePeriodSeconds -1 is below 0"),
        (
            {"preconditions": {"resourceVersion": "77"}},
            409,
            'Operation cannot be fulfilled on configmaps "a": Precondition failed: '
            "ResourceVersion in precondition: 77, ResourceVersion in object meta: 2",
        ),
    ],
)
def test_deletions_that_are_refused(client: Client, options: Json, code: int, message: str) -> None:
    client.make(CONFIGS, config())
    status, _, told = client.refused("DELETE", f"{CONFIGS}/a", options)
    assert (status, told) == (code, message)
    assert client.get(f"{CONFIGS}/a")


@pytest.mark.parametrize(
    ("options", "finalizers"),
    [
        ({"propagationPolicy": "Foreground"}, ["foregroundDeletion"]),
        ({"orphanDependents": True}, ["orphan"]),
    ],
)
def test_propagation(client: Client, options: Json, finalizers: list[str]) -> None:
    client.make(DEPLOYMENTS, deployment())
    _, told = client.ask("DELETE", f"{DEPLOYMENTS}/web", options)
    assert told["metadata"]["finalizers"] == finalizers
    client.ask("DELETE", f"{DEPLOYMENTS}/web", {"orphanDependents": False})
    assert client.get(DEPLOYMENTS)["items"] == []


def test_a_selected_part_of_a_collection_is_deleted(client: Client) -> None:
    for name, app in (("a", "web"), ("b", "web"), ("c", "api")):
        client.make(PODS, pod(name, app=app))
    _, tried = client.ask("DELETE", PODS, labelSelector="app%3Dweb", dryRun="All")
    assert len(tried["items"]) == 2
    _, told = client.ask("DELETE", PODS, labelSelector="app%3Dweb")
    assert [item["metadata"]["name"] for item in told["items"]] == ["a", "b"]
    assert [item["metadata"]["name"] for item in client.get(PODS)["items"]] == ["c"]


def test_a_pod_is_evicted(client: Client) -> None:
    client.make(PODS, pod())
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    status, told = client.ask("POST", f"{PODS}/a/eviction", body)
    assert (status, told["status"]) == (201, "Success")
    assert client.get(PODS)["items"] == []
