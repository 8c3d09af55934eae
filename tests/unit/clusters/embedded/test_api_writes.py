"""Creating, changing and deleting objects through the API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.api.api import Response

from .test_api import CONFIGS, DEPLOYMENTS, PODS, Json, config, deployment, pod

if TYPE_CHECKING:
    from .conftest import Client


def test_a_created_object_is_complete(client: Client) -> None:
    made = client.make(PODS, {**pod(), "status": {"phase": "Running"}})
    assert made["metadata"]["namespace"] == "default"
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert made["metadata"]["managedFields"][0]["manager"] == "tests"
    assert client.admitted[0][0] == "pods"
    assert client.admitted[0][1]["spec"]["restartPolicy"] == "Always"
    assert client.get(f"{PODS}/a") == made


def test_yaml_is_read_with_times_as_text(client: Client) -> None:
    text = b"metadata:\n  name: a\n  creationTimestamp: 2025-01-31T12:00:00Z\ndata: {at: '1'}\n"
    status, made = client.ask("POST", CONFIGS, text, content_type="application/yaml")
    assert (status, made["data"]) == (201, {"at": "1"})


@pytest.mark.parametrize(
    ("body", "query", "code", "message"),
    [
        (
            {"metadata": {"name": "a", "resourceVersion": "1"}},
            {},
            400,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            {"metadata": {"name": "a", "namespace": "other"}},
            {},
            400,
            "the namespace of the provided object does not match the namespace sent on the "
            "request: 'other' and 'default'",
        ),
        (
            {"kind": "Secret", "metadata": {"name": "a"}},
            {},
            400,
            "Secret in version 'v1' cannot be handled as a ConfigMap of v1, which this path is for",
        ),
        ([1], {}, 400, "the body of the request is not a ConfigMap object: [1]"),
        (
            {"metadata": {"name": "A"}},
            {},
            422,
            'ConfigMap "A" is invalid: metadata.name: Invalid value: "A": a lowercase RFC 1123 '
            "subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
            "start and end with an alphanumeric character (e.g. 'example.com', regex used for "
            "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            {"metadata": {"name": "a"}, "date": {}},
            {"fieldValidation": "Strict"},
            400,
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
            'unknown field "date"',
        ),
        (
            {"metadata": {"name": "a"}},
            {"fieldValidation": "Loose"},
            400,
            'fieldValidation: Unsupported value: "Loose": supported values: "Ignore", "Strict", '
            '"Warn"',
        ),
        (
            {"metadata": {"name": "a"}},
            {"dryRun": "Some"},
            400,
            'dryRun: Unsupported value: "Some": supported values: "All"',
        ),
    ],
)
def test_what_cannot_be_created(
    client: Client, body: Any, query: dict[str, str], code: int, message: str
) -> None:
    status, _, told = client.refused("POST", CONFIGS, body, **query)
    assert (status, told) == (code, message)
    assert client.get(CONFIGS)["items"] == []


@pytest.mark.parametrize(
    ("body", "content_type", "code", "message"),
    [
        (
            b"{",
            "application/json",
            400,
            "the body of the request is not JSON: Expecting property name enclosed in double "
            "quotes: line 1 column 2 (char 1)",
        ),
        (
            b"x",
            "application/cbor",
            415,
            "the embedded cluster reads application/json, application/yaml and "
            "application/vnd.kubernetes.protobuf, not 'application/cbor'; use "
            "--grpclb-cluster=kind for clients that send nothing else",
        ),
    ],
)
def test_bodies_that_cannot_be_read(
    client: Client, body: bytes, content_type: str, code: int, message: str
) -> None:
    status, _, told = client.refused("POST", CONFIGS, body, content_type=content_type)
    assert (status, told) == (code, message)
    told = client.refused("POST", CONFIGS, b"a: [", content_type="application/yaml")[2]
    assert told.startswith("the body of the request is not YAML: while parsing")


def test_unknown_fields_are_dropped_with_a_warning(client: Client) -> None:
    body = {"metadata": {"name": "a"}, "date": {"a": "b"}}
    answer = client.send("POST", CONFIGS, body)
    assert isinstance(answer, Response)
    assert answer.warnings == ('unknown field "date"',)
    assert "date" not in json.loads(answer.body)
    answer = client.send("PUT", f"{CONFIGS}/a", body, fieldValidation="Ignore")
    assert isinstance(answer, Response)
    assert answer.warnings == ()


def test_objects_belong_to_a_namespace_that_is_there_and_stays(client: Client) -> None:
    path = "/api/v1/namespaces/shop/configmaps"
    assert client.refused("POST", path, config()) == (
        404,
        "NotFound",
        'namespaces "shop" not found',
    )
    client.make("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    client.make(path, config())
    client.ask("DELETE", "/api/v1/namespaces/shop")
    assert client.get("/api/v1/namespaces/shop")["status"]["phase"] == "Terminating"
    assert client.refused("POST", path, config("b")) == (
        403,
        "Forbidden",
        'ConfigMap "b" is forbidden: unable to create new content in namespace shop because it is '
        "being terminated",
    )


def test_a_dry_run_says_what_would_be(client: Client) -> None:
    made = client.make(PODS, pod(), dryRun="All")
    assert made["spec"]["restartPolicy"] == "Always"
    assert client.get(PODS)["items"] == []


# --- changing


def test_an_object_is_replaced(client: Client) -> None:
    made = client.make(CONFIGS, config(a="1"))
    status, told = client.ask("PUT", f"{CONFIGS}/a", {**made, "data": {"b": "2"}})
    assert (status, told["data"]) == (200, {"b": "2"})
    code, reason, _ = client.refused("PUT", f"{CONFIGS}/a", {**made, "data": {}})
    assert (code, reason) == (409, "Conflict")
    assert client.refused("PUT", f"{CONFIGS}/a", config("b")) == (
        400,
        "BadRequest",
        "the name of the provided object does not match the name sent on the request: 'b' and 'a'",
    )
    assert client.refused("PUT", f"{CONFIGS}/b", config("b"))[0] == 404


def test_a_replaced_service_keeps_its_address(client: Client) -> None:
    path = "/api/v1/namespaces/default/services"
    spec = {"ports": [{"port": 80}], "clusterIP": "127.9.128.1", "clusterIPs": ["127.9.128.1"]}
    client.make(path, {"metadata": {"name": "web"}, "spec": spec})
    body: Json = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 81}]}}
    _, told = client.ask("PUT", f"{path}/web", body)
    assert told["spec"]["clusterIP"] == "127.9.128.1"
    assert told["spec"]["ports"][0]["port"] == 81
    other = {**body, "spec": {**body["spec"], "clusterIP": "127.9.128.2"}}
    assert client.refused("PUT", f"{path}/web", other)[0] == 422


@pytest.mark.parametrize(
    ("content_type", "patch"),
    [
        ("application/merge-patch+json", {"spec": {"replicas": 5}}),
        ("application/strategic-merge-patch+json", {"spec": {"replicas": 5}}),
        (
            "application/json-patch+json",
            [{"op": "replace", "path": "/spec/replicas", "value": 5}],
        ),
        ("application/apply-patch+yaml", deployment(replicas=5)),
    ],
)
def test_an_object_is_patched_in_every_form(client: Client, content_type: str, patch: Any) -> None:
    client.make(DEPLOYMENTS, deployment(replicas=3), fieldManager="other")
    status, told = client.ask(
        "PATCH",
        f"{DEPLOYMENTS}/web",
        patch,
        content_type=content_type,
        fieldManager="tests",
        force="true",
    )
    assert status == 200
    assert told["spec"]["replicas"] == 5
    assert told["metadata"]["generation"] == 2
    owners = {entry["manager"] for entry in told["metadata"]["managedFields"]}
    assert owners == {"other", "tests"}


def test_a_patched_object_is_checked_like_any_other(client: Client) -> None:
    client.make(DEPLOYMENTS, deployment())
    merge = {"content_type": "application/merge-patch+json"}
    assert client.refused("PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": -1}}, **merge) == (
        422,
        "Invalid",
        'Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than '
        "or equal to 0",
    )
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 2}}
    assert client.refused("PATCH", f"{DEPLOYMENTS}/web", stale, **merge)[:2] == (409, "Conflict")
    assert client.refused("PATCH", f"{DEPLOYMENTS}/web", {}) == (
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - 'application/json'; accepted media "
        "types include: application/json-patch+json, application/merge-patch+json, "
        "application/strategic-merge-patch+json, application/apply-patch+yaml",
    )


def test_apply_creates_changes_and_takes_away(client: Client) -> None:
    path = f"{CONFIGS}/a"
    applying = {"content_type": "application/apply-patch+yaml", "fieldManager": "tests"}
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    status, told = client.ask("PATCH", path, {**head, **config(x="1", y="2")}, **applying)
    assert (status, told["data"]) == (201, {"x": "1", "y": "2"})
    status, told = client.ask("PATCH", path, {**head, **config(x="1")}, **applying)
    assert (status, told["data"]) == (200, {"x": "1"})
    version = told["metadata"]["resourceVersion"]
    yaml = b"apiVersion: v1\nkind: ConfigMap\ndata: {x: '1'}\n"
    status, told = client.ask("PATCH", path, yaml, **applying)
    assert (status, told["metadata"]["resourceVersion"]) == (200, version)
    assert len(client.admitted) == 1


@pytest.mark.parametrize(
    ("body", "path", "query", "code", "message"),
    [
        (
            deployment(),
            f"{DEPLOYMENTS}/web",
            {},
            400,
            "fieldManager: Required value: is required for apply patch",
        ),
        (
            {"metadata": {"name": "web"}, "spec": {}},
            f"{DEPLOYMENTS}/web",
            {"fieldManager": "m"},
            422,
            'Deployment.apps "web" is invalid: [spec.selector: Required value, spec.template: '
            "Required value]",
        ),
        (
            deployment(),
            f"{DEPLOYMENTS}/web/status",
            {"fieldManager": "m"},
            400,
            "server-side apply to deployments.apps/status is not there in the embedded cluster; "
            "use a merge patch",
        ),
    ],
)
def test_what_cannot_be_applied(
    client: Client, body: Json, path: str, query: dict[str, str], code: int, message: str
) -> None:
    status, _, told = client.refused(
        "PATCH", path, body, content_type="application/apply-patch+yaml", **query
    )
    assert (status, told) == (code, message)


def test_status_is_written_through_its_own_path(client: Client) -> None:
    made = client.make(DEPLOYMENTS, deployment(replicas=3))
    changed = {**made, "spec": {**made["spec"], "replicas": 9}, "status": {"readyReplicas": 1}}
    _, told = client.ask("PUT", f"{DEPLOYMENTS}/web/status", changed)
    assert (told["spec"]["replicas"], told["status"]) == (3, {"readyReplicas": 1})
    patch: Json = {"status": {"conditions": [{"type": "Available", "status": "True"}]}}
    _, told = client.ask(
        "PATCH",
        f"{DEPLOYMENTS}/web/status",
        patch,
        content_type="application/strategic-merge-patch+json",
    )
    assert told["status"] == {**patch["status"], "readyReplicas": 1}
    assert client.get(f"{DEPLOYMENTS}/web/status") == told


def test_scale(client: Client) -> None:
    made = client.make(DEPLOYMENTS, deployment(replicas=3))
    scale = client.get(f"{DEPLOYMENTS}/web/scale")
    assert scale == {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": made["metadata"]["uid"],
            "resourceVersion": "2",
            "creationTimestamp": "2026-01-31T12:00:00Z",
        },
        "spec": {"replicas": 3},
        "status": {"replicas": 0, "selector": "app=web"},
    }
    _, told = client.ask("PUT", f"{DEPLOYMENTS}/web/scale", {**scale, "spec": {"replicas": 6}})
    assert told["spec"] == {"replicas": 6}
    assert client.get(f"{DEPLOYMENTS}/web")["spec"]["replicas"] == 6
    stale = {**scale, "spec": {"replicas": 1}}
    assert client.refused("PUT", f"{DEPLOYMENTS}/web/scale", stale)[0] == 409
    _, told = client.ask(
        "PATCH",
        f"{DEPLOYMENTS}/web/scale",
        {"spec": {"replicas": 0}},
        content_type="application/merge-patch+json",
    )
    assert told["spec"] == {"replicas": 0}
    status, _, message = client.refused(
        "PATCH",
        f"{DEPLOYMENTS}/web/scale",
        {"spec": {"replicas": -1}},
        content_type="application/merge-patch+json",
    )
    assert (status, "spec.replicas: Invalid value: -1" in message) == (422, True)
