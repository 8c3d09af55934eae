"""What the API says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.api.api import Response
from pytest_grpclb.clusters.embedded.store.kinds import KINDS, by_kind, by_resource

if TYPE_CHECKING:
    from .conftest import Client

AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


def test_version(client: Client) -> None:
    told = client.get("/version")
    assert told["gitVersion"] == f"v{told['major']}.{told['minor']}.0+grpclb"


def test_groups_and_their_resources_name_every_kind(client: Client) -> None:
    assert client.get("/api")["versions"] == ["v1"]
    versions = ["v1"] + [
        group["preferredVersion"]["groupVersion"] for group in client.get("/apis")["groups"]
    ]
    found = set()
    for version in versions:
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        told = client.get(root)
        assert told["groupVersion"] == version
        found |= {(version, r["kind"]) for r in told["resources"] if "/" not in r["name"]}
    assert found == {(kind.api_version, kind.kind) for kind in KINDS.values()}
    assert client.get("/apis/apps")["name"] == "apps"
    assert f"/api/{versions[0]}" in client.get("/")["paths"]


def test_a_resource_in_full(client: Client) -> None:
    resources = {entry["name"]: entry for entry in client.get("/apis/apps/v1")["resources"]}
    assert resources["deployments"] == {
        "name": "deployments",
        "singularName": "deployment",
        "namespaced": True,
        "kind": "Deployment",
        "verbs": [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "watch",
            "patch",
            "update",
        ],
        "shortNames": ["deploy"],
        "categories": ["all"],
    }
    assert resources["deployments/scale"] == {
        "name": "deployments/scale",
        "singularName": "",
        "namespaced": True,
        "group": "autoscaling",
        "version": "v1",
        "kind": "Scale",
        "verbs": ["get", "patch", "update"],
    }


def test_aggregated_discovery_says_the_same(client: Client) -> None:
    def aggregated(path: str) -> Any:
        answer = client.send("GET", path, accept=AGGREGATED)
        assert isinstance(answer, Response)
        assert answer.content_type == (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        )
        return json.loads(answer.body)["items"]

    items = aggregated("/api") + aggregated("/apis")
    found = {
        (entry["resource"], len(entry.get("subresources", ())))
        for item in items
        for entry in item["versions"][0]["resources"]
    }
    assert found == {(kind.plural, len(kind.subresources)) for kind in KINDS.values()}
    assert [item["metadata"] for item in items][:2] == [{}, {"name": "apps"}]


def test_openapi_says_that_the_server_checks_fields(client: Client) -> None:
    paths = client.get("/openapi/v3")["paths"]
    assert paths["apis/apps/v1"] == {"serverRelativeURL": "/openapi/v3/apis/apps/v1"}
    document = client.get("/openapi/v3/apis/apps/v1")
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
    }
    assert [parameter["name"] for parameter in patch["parameters"]] == ["fieldValidation"]
    assert client.refused("GET", "/openapi/v2")[0] == 404


def test_kinds_are_found_by_path_and_by_object() -> None:
    found = by_resource("apps", "v1", "deployments")
    assert found is by_kind("apps/v1", "Deployment")
    assert found is KINDS["deployments.apps"]
    assert by_resource("apps", "v1beta1", "deployments") is None
    assert by_kind("v1", "Deployment") is None
