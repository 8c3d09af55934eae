"""Requests and answers, without sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.api.api import Request, Response
from pytest_grpclb.clusters.embedded.api.streams import LogOptions, LogResponse

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


# --- logs


def with_status(client: Client, **status: Any) -> None:
    made = client.store.get("pods", "a", "default")
    client.store.update_status("pods", {**made, "status": status})


def running(name: str, **more: Any) -> Json:
    return {"name": name, "state": {"running": {}}, "restartCount": 0, **more}


def test_a_log_is_asked_of_the_reader(client: Client) -> None:
    client.make(PODS, pod())
    with_status(client, containerStatuses=[running("c", lastState={"terminated": {}})])
    answer = client.send(
        "GET",
        f"{PODS}/a/log",
        follow="true",
        previous="true",
        timestamps="true",
        tailLines="5",
        limitBytes="9",
        sinceSeconds="60",
    )
    assert isinstance(answer, LogResponse)
    assert (answer.status, answer.content_type) == (200, "text/plain")
    assert client.logs_asked == [
        LogOptions(
            container="c",
            follow=True,
            previous=True,
            timestamps=True,
            tail_lines=5,
            limit_bytes=9,
            since_s=60,
        )
    ]


@pytest.mark.parametrize(
    ("statuses", "query", "message"),
    [
        ([], {}, 'container "c" in pod "a" is waiting to start: no status yet'),
        ([running("c")], {"container": "x"}, "container x is not valid for pod a"),
        (
            [running("c")],
            {"previous": "1"},
            'previous terminated container "c" in pod "a" not found',
        ),
        (
            [{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}],
            {},
            'container "c" in pod "a" is waiting to start: ContainerCreating',
        ),
        (
            [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such"}}}],
            {},
            'container "c" in pod "a" is waiting to start: no such',
        ),
    ],
)
def test_logs_that_are_not_there(
    client: Client, statuses: list[Json], query: dict[str, str], message: str
) -> None:
    client.make(PODS, pod())
    with_status(client, containerStatuses=statuses)
    assert client.refused("GET", f"{PODS}/a/log", **query) == (400, "BadRequest", message)


def test_a_container_that_waits_to_start_again_has_a_log(client: Client) -> None:
    client.make(PODS, pod())
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    entry = {"name": "c", "state": waiting, "lastState": {"terminated": {}}}
    with_status(client, containerStatuses=[entry])
    assert isinstance(client.send("GET", f"{PODS}/a/log"), LogResponse)


def test_of_several_containers_one_must_be_named(client: Client) -> None:
    body = pod()
    body["spec"]["containers"].append({"name": "d", "image": "x"})
    body["spec"]["initContainers"] = [{"name": "i", "image": "x"}]
    client.make(PODS, body)
    with_status(client, initContainerStatuses=[running("i")])
    assert client.refused("GET", f"{PODS}/a/log")[2] == (
        "a container name must be specified for pod a, choose one of: [c d] or one of the init "
        "containers: [i]"
    )
    assert isinstance(client.send("GET", f"{PODS}/a/log", container="i"), LogResponse)
