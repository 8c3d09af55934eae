"""What the Kubernetes API of a cluster must do.

:source: Kubernetes documentation, "API concepts", "Server-Side Apply", "Labels and Selectors",
    "Using RBAC Authorization"
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import NAMESPACES, PODS, Resource
from pytest_grpclb.clusters.namespaces import create_namespace, delete_namespace
from pytest_grpclb.conformance.subject import CONFIG_MAPS, SLICES, Subject
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "check_created_twice_is_a_conflict",
    "check_label_and_field_selectors",
    "check_namespace_deletion_removes_contents",
    "check_requests_without_credentials_are_refused",
    "check_role_is_what_lets_a_service_account_in",
    "check_server_side_apply_drops_fields",
    "check_stale_version_is_a_conflict",
    "check_unknown_kind_is_not_found",
    "check_watch_from_a_lost_version_is_gone",
    "check_watch_sees_every_change_in_order",
]


_RBAC = "rbac.authorization.k8s.io/v1"
_ROLES = Resource(_RBAC, "roles", namespaced=True)
_BINDINGS = Resource(_RBAC, "rolebindings", namespaced=True)
_ACCOUNTS = Resource("v1", "serviceaccounts", namespaced=True)
_ACCOUNT_FILES = "/var/run/secrets/kubernetes.io/serviceaccount"
_ASK = """
import http.client, json, os, pathlib, ssl, sys
files = pathlib.Path(sys.argv[1])
bearer = {"Authorization": "Bearer " + (files / "token").read_text().strip()}
trusting = ssl.create_default_context(cafile=str(files / "ca.crt"))
server = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
def status(path):
    connection = http.client.HTTPSConnection(*server, context=trusting, timeout=30)
    connection.request("GET", path, headers=bearer)
    return connection.getresponse().status
print(json.dumps([status(path) for path in sys.argv[2:]]))
"""
"""Prints the status of each path, asked for as a pod's service account."""


def check_requests_without_credentials_are_refused(subject: Subject) -> None:
    """Nobody without credentials reads or makes anything."""
    stranger = subject.api.without_credentials()
    try:
        path = PODS.path(subject.namespace)
        for verb, body in (("GET", None), ("POST", _config_map("x"))):
            # A cluster may take strangers for system:anonymous, who may then do nothing: 403.
            assert _refusal(lambda: stranger.request(verb, path, body=body)).status in {401, 403}  # noqa: B023
    finally:
        stranger.close()


def check_role_is_what_lets_a_service_account_in(subject: Subject) -> None:
    """A pod may do with its account's token what a role says that is bound to it, and no more."""
    group = _RBAC.partition("/")[0]
    role = {"kind": "Role", "name": "watcher"}
    rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}
    account = {"kind": "ServiceAccount", "name": "bound", "namespace": subject.namespace}
    try:
        subject.create(_ROLES, {"metadata": {"name": "watcher"}, "rules": [rule]})
        subject.create(
            _BINDINGS,
            {
                "metadata": {"name": "watcher"},
                "roleRef": {"apiGroup": group, **role},
                "subjects": [account],
            },
        )
    except ApiError as error:
        if error.status != 403:
            raise
        pytest.skip(f"whoever asks may not make roles: {error.message}")
    paths = (SLICES.path(subject.namespace), PODS.path(subject.namespace), SLICES.path("default"))
    for name, allowed in (("bound", [200, 403, 403]), ("free", [403, 403, 403])):
        subject.create(_ACCOUNTS, {"metadata": {"name": name}})
        [line] = subject.output(name, _ASK, _ACCOUNT_FILES, *paths, serviceAccountName=name)
        assert json.loads(line) == allowed, f"account {name!r} was answered so on {paths}"


def check_unknown_kind_is_not_found(subject: Subject) -> None:
    """A kind that is not served is 404, by its path and by discovery."""
    path = f"/apis/apps/v1/namespaces/{subject.namespace}/wombats"
    assert _refusal(lambda: subject.api.request("GET", path)).status == 404
    wombat = {"apiVersion": "apps/v1", "kind": "Wombat", "metadata": {"name": "x"}}
    refusal = _refusal(lambda: subject.api.apply([wombat], namespace=subject.namespace))
    assert refusal.status == 404
    assert "'Wombat'" in refusal.message


def check_created_twice_is_a_conflict(subject: Subject) -> None:
    """A name that is taken is 409 AlreadyExists, and the object stays as it was."""
    subject.create(CONFIG_MAPS, _config_map("taken", n="1"))
    refusal = _refusal(lambda: subject.create(CONFIG_MAPS, _config_map("taken", n="2")))
    assert (refusal.status, refusal.reason) == (409, "AlreadyExists")
    assert subject.api.get(CONFIG_MAPS, subject.namespace, "taken")["data"] == {"n": "1"}


def check_stale_version_is_a_conflict(subject: Subject) -> None:
    """A change that is based on an older version of the object is 409 Conflict."""
    first = subject.create(CONFIG_MAPS, _config_map("versioned", n="1"))
    second = {**first, "data": {"n": "2"}}
    path = CONFIG_MAPS.path(subject.namespace, "versioned")
    subject.api.request("PUT", path, body=second)
    refusal = _refusal(lambda: subject.api.request("PUT", path, body={**first, "data": {"n": "3"}}))
    assert (refusal.status, refusal.reason) == (409, "Conflict")
    assert subject.api.get(CONFIG_MAPS, subject.namespace, "versioned")["data"] == {"n": "2"}


def check_watch_sees_every_change_in_order(subject: Subject) -> None:
    """A watch that begins at a list's version tells all that came after it, once, in order."""
    path = CONFIG_MAPS.path(subject.namespace)
    subject.create(CONFIG_MAPS, _config_map("before"))
    begin = subject.api.request("GET", path)["metadata"]["resourceVersion"]
    subject.create(CONFIG_MAPS, _config_map("watched", n="0"))
    for number in range(1, 6):
        subject.patch(CONFIG_MAPS, "watched", {"data": {"n": str(number)}})
    subject.api.delete(CONFIG_MAPS, subject.namespace, "watched")
    query = {
        "watch": "1",
        "resourceVersion": begin,
        "fieldSelector": "metadata.name=watched",
        "timeoutSeconds": str(round(subject.timeout_s)),
    }
    told = []
    with subject.api.stream(path, query=query) as stream:
        for event in stream.events():
            told.append((event["type"], event["object"]["data"]["n"]))
            if event["type"] == "DELETED":
                break
    changes = [("MODIFIED", str(number)) for number in range(1, 6)]
    assert told == [("ADDED", "0"), *changes, ("DELETED", "5")]


def check_watch_from_a_lost_version_is_gone(subject: Subject) -> None:
    """A watch that cannot begin where it is asked to says 410, so that clients list again."""
    path = CONFIG_MAPS.path(subject.namespace)
    query = {"watch": "1", "resourceVersion": "1", "timeoutSeconds": "1"}
    try:
        with subject.api.stream(path, query=query) as stream:
            told = [event for event in stream.events() if event["type"] == "ERROR"]
    except ApiError as error:
        assert error.status == 410  # noqa: PT017 - either form of saying it is allowed
        return
    # A young cluster still has its whole history and may begin there.
    assert [event["object"]["code"] for event in told] in ([], [410])


def check_server_side_apply_drops_fields(subject: Subject) -> None:
    """Applied again without a field that only the applier holds, the object loses that field."""

    def apply(data: dict[str, str]) -> dict[str, Any]:
        [made] = subject.api.apply([_config_map("applied", **data)], namespace=subject.namespace)
        return made

    apply({"kept": "1", "dropped": "1"})
    subject.patch(CONFIG_MAPS, "applied", {"data": {"foreign": "1"}})
    assert apply({"kept": "2"})["data"] == {"kept": "2", "foreign": "1"}


def check_label_and_field_selectors(subject: Subject) -> None:
    """Lists, and what is deleted from them, follow selectors."""
    for name, labels in (("a", {"tier": "1"}), ("b", {"tier": "2"}), ("c", {})):
        made = _config_map(f"selected-{name}")
        made["metadata"]["labels"] = {"test": "selectors", **labels}
        subject.create(CONFIG_MAPS, made)
    path = CONFIG_MAPS.path(subject.namespace)

    def names(selector: str, field: str = "") -> str:
        query = {"labelSelector": f"test=selectors,{selector}" if selector else "test=selectors"}
        if field:
            query["fieldSelector"] = field
        items = subject.api.request("GET", path, query=query)["items"]
        return "".join(sorted(each["metadata"]["name"][-1] for each in items))

    assert names("") == "abc"
    assert names("tier=1") == "a"
    assert names("tier!=1") == "bc"
    assert names("tier in (1,2)") == "ab"
    assert names("tier notin (1)") == "bc"
    assert names("tier") == "ab"
    assert names("!tier") == "c"
    assert names("", "metadata.name=selected-b") == "b"
    assert names("tier=1", "metadata.name=selected-b") == ""
    subject.api.request("DELETE", path, query={"labelSelector": "test=selectors,tier"})
    assert names("") == "c"


def check_namespace_deletion_removes_contents(subject: Subject) -> None:
    """A namespace that is deleted ends everything in it, and nothing beside it."""
    name = f"{subject.namespace}-gone"
    create_namespace(subject.api, name, run=subject.run)
    try:
        inside = {**_config_map("inside"), "metadata": {"name": "inside", "namespace": name}}
        subject.api.apply([inside], namespace=name)
        subject.create(CONFIG_MAPS, _config_map("beside"))
    finally:
        delete_namespace(subject.api, name, run=subject.run)
    path = NAMESPACES.path()
    query = {"fieldSelector": f"metadata.name={name}"}
    listed = subject.api.request("GET", path, query=query)
    if listed["items"]:
        version = listed["metadata"]["resourceVersion"]
        query |= {"watch": "1", "resourceVersion": version}
        query["timeoutSeconds"] = str(round(subject.timeout_s))
        with subject.api.stream(path, query=query) as stream:
            assert any(event["type"] == "DELETED" for event in stream.events()), "it stays"
    assert _refusal(lambda: subject.api.get(CONFIG_MAPS, name, "inside")).status == 404
    assert subject.api.get(CONFIG_MAPS, subject.namespace, "beside")


def _config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data,
    }


def _refusal(act: Callable[[], object]) -> ApiError:
    try:
        act()
    except ApiError as error:
        return error
    raise AssertionError("the API did not refuse it")
