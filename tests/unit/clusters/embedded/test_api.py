"""Requests and answers, without sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.api.api import Request, Response

if TYPE_CHECKING:
    from .conftest import Client

Json = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
CONFIGS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def pod(name: str = "a", **labels: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    }


def config(name: str = "a", **data: str) -> Json:
    return {"metadata": {"name": name}, "data": data}


def deployment(**spec: Any) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
            **spec,
        },
    }


# --- who may ask


@pytest.mark.parametrize("path", [PODS, "/version", "/api", "/healthz", "/openapi/v3", "/nowhere"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "x"}])
def test_nothing_is_answered_without_the_token(
    client: Client, path: str, headers: dict[str, str]
) -> None:
    answer = client.api.handle(Request(method="GET", path=path, headers=headers))
    assert isinstance(answer, Response)
    assert answer.status == 401
    assert json.loads(answer.body) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the request carries no bearer token of this embedded cluster; use its "
        "kubeconfig",
        "reason": "Unauthorized",
        "code": 401,
    }


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health(client: Client, path: str) -> None:
    answer = client.send("GET", path)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body, answer.content_type) == (200, b"ok", "text/plain")


# --- what there is not


KNOWN = (
    "clusterrolebindings.rbac.authorization.k8s.io, clusterroles.rbac.authorization.k8s.io, "
    "configmaps, deployments.apps, endpointslices.discovery.k8s.io, events, "
    "ingressclasses.networking.k8s.io, ingresses.networking.k8s.io, leases.coordination.k8s.io, "
    "namespaces, nodes, pods, replicasets.apps, rolebindings.rbac.authorization.k8s.io, "
    "roles.rbac.authorization.k8s.io, secrets, serviceaccounts, services, statefulsets.apps"
)


@pytest.mark.parametrize(
    ("method", "path", "code", "reason", "message"),
    [
        (
            "GET",
            "/apis/example.com/v1/foos",
            404,
            "NotFound",
            'the embedded cluster does not know the kind "foos.example.com" in version v1; it '
            f"knows: {KNOWN}; use --grpclb-cluster=kind for others",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/endpoints",
            404,
            "NotFound",
            'the embedded cluster does not know the kind "endpoints" in version v1; it '
            f"knows: {KNOWN}; use --grpclb-cluster=kind for others",
        ),
        (
            "GET",
            "/apis/apps/v1beta1/deployments",
            404,
            "NotFound",
            'the embedded cluster does not know the kind "deployments.apps" in version v1beta1; it '
            f"knows: {KNOWN}; use --grpclb-cluster=kind for others",
        ),
        (
            "POST",
            f"{PODS}/a/exec",
            404,
            "NotFound",
            'the embedded cluster does not know "pods/exec"; of the subresources of pods it knows: '
            "pods/eviction, pods/log, pods/portforward, pods/status; use --grpclb-cluster=kind for "
            "others",
        ),
        (
            "GET",
            "/nowhere",
            404,
            "NotFound",
            "the embedded cluster has nothing at '/nowhere'; it has /api, /apis, /openapi/v3, "
            "/version, /healthz, /livez and /readyz",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/nodes",
            404,
            "NotFound",
            "nodes do not belong to a namespace; leave it out of "
            "'/api/v1/namespaces/default/nodes'",
        ),
        (
            "POST",
            f"{PODS}/a",
            405,
            "MethodNotAllowed",
            f"the embedded cluster does not take POST for '{PODS}/a'",
        ),
        (
            "DELETE",
            "/api/v1/pods",
            405,
            "MethodNotAllowed",
            "pods are deleted in one namespace at a time, not in all",
        ),
        ("DELETE", "/version", 405, "MethodNotAllowed", "'/version' can only be read, with GET"),
        ("GET", f"{PODS}/a", 404, "NotFound", 'pods "a" not found'),
    ],
)
def test_what_there_is_not_is_named(
    client: Client, method: str, path: str, code: int, reason: str, message: str
) -> None:
    assert client.refused(method, path) == (code, reason, message)


# --- reading


def test_one_object_and_lists_of_them(client: Client) -> None:
    client.store.create("namespaces", {"metadata": {"name": "other"}})
    client.make(PODS, pod("b", app="web"))
    client.make(PODS, pod("a", app="api"))
    client.make("/api/v1/namespaces/other/pods", pod("c", app="web"))
    assert client.get(f"{PODS}/b")["metadata"]["name"] == "b"

    def names(path: str, **query: str) -> list[str]:
        return [item["metadata"]["name"] for item in client.get(path, **query)["items"]]

    assert names(PODS) == ["a", "b"]
    assert names("/api/v1/pods") == ["a", "b", "c"]
    assert names("/api/v1/pods", labelSelector="app%3Dweb") == ["b", "c"]
    assert names("/api/v1/pods", fieldSelector="metadata.namespace%3Dother") == ["c"]
    listed = client.get(PODS)
    assert (listed["kind"], listed["apiVersion"]) == ("PodList", "v1")
    assert listed["metadata"] == {"resourceVersion": "5"}


def test_a_list_as_a_table(client: Client) -> None:
    client.make(PODS, pod())
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    told = client.get(PODS, accept=accept)
    assert told["kind"] == "Table"
    assert told["metadata"] == {"resourceVersion": "2"}
    shown = [c["name"] for c in told["columnDefinitions"] if c["priority"] == 0]
    assert shown == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert told["rows"][0]["cells"][:5] == ["a", "0/1", "Pending", "0", "0s"]
    assert told["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert client.get(f"{PODS}/a", accept=accept, includeObject="Object")["rows"][0]["object"][
        "spec"
    ]
    assert client.get(PODS, accept=accept, includeObject="None")["rows"][0]["object"] is None


def test_a_client_that_takes_no_json_is_told_so(client: Client) -> None:
    assert client.refused("GET", PODS, accept="application/vnd.kubernetes.protobuf") == (
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json; the client accepts "
        "'application/vnd.kubernetes.protobuf'",
    )
    both = "application/vnd.kubernetes.protobuf,application/json"
    assert client.get(PODS, accept=both)["kind"] == "PodList"
    assert client.get(PODS, accept="")["kind"] == "PodList"
    assert client.get(PODS, accept="text/html, */*;q=0.8")["kind"] == "PodList"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"continue": "x"}, "continue: lists are given whole, no list had a token to go on"),
        ({"watch": "maybe"}, "watch='maybe' in the query must be true or false"),
        (
            {"watch": "1", "timeoutSeconds": "soon"},
            "timeoutSeconds='soon' in the query must be a whole number from 0 up",
        ),
        (
            {"watch": "1", "sendInitialEvents": "true"},
            "sendInitialEvents: Forbidden: sendInitialEvents requires setting "
            "resourceVersionMatch to NotOlderThan",
        ),
    ],
)
def test_queries_that_cannot_be(client: Client, query: dict[str, str], message: str) -> None:
    assert client.refused("GET", PODS, **query) == (400, "BadRequest", message)


# --- creating
