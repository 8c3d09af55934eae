"""What a service account may do: only what roles that are bound to it say, at once and as long."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import NAMESPACES, PODS, KubeApi, Resource
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

ACCOUNTS = Resource("v1", "serviceaccounts", namespaced=True)
RBAC = "rbac.authorization.k8s.io/v1"
ROLES = Resource(RBAC, "roles", namespaced=True)
BINDINGS = Resource(RBAC, "rolebindings", namespaced=True)
SLICES = Resource("discovery.k8s.io/v1", "endpointslices", namespaced=True)
RULE = {
    "apiGroups": ["discovery.k8s.io"],
    "resources": ["endpointslices"],
    "verbs": ["get", "list", "watch"],
}


@pytest.fixture
def login(
    embedded_cluster: EmbeddedCluster, api: KubeApi, namespace: str, tmp_path: Path
) -> Iterator[Callable[[str], KubeApi]]:
    """Create a service account, and connect with a token of its own."""
    opened = []

    def connect(name: str) -> KubeApi:
        api.request("POST", ACCOUNTS.path(namespace), body={"metadata": {"name": name}})
        asked = api.request("POST", ACCOUNTS.path(namespace, name, "token"), body={"spec": {}})
        config = json.loads(embedded_cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": asked["status"]["token"]}
        (tmp_path / name).write_text(json.dumps(config))
        opened.append(KubeApi(tmp_path / name, embedded_cluster.context))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


def grant(api: KubeApi, namespace: str, account: str, *, home: str = "") -> None:
    """Let an account do what RULE says."""
    role: dict[str, Any] = {"metadata": {"name": "watcher"}, "rules": [RULE]}
    api.request("POST", ROLES.path(namespace), body=role)
    subject = {"kind": "ServiceAccount", "name": account, "namespace": home or namespace}
    api.request(
        "POST",
        BINDINGS.path(namespace),
        body={
            "metadata": {"name": "watcher"},
            "roleRef": {"apiGroup": RBAC.partition("/")[0], "kind": "Role", "name": "watcher"},
            "subjects": [subject],
        },
    )


def refusal(ask: Callable[[], Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        ask()
    return caught.value


def test_a_role_is_what_lets_an_account_in(
    api: KubeApi, namespace: str, login: Callable[[str], KubeApi]
) -> None:
    watcher = login("watcher")
    refused = refusal(lambda: watcher.list(SLICES, namespace))
    assert (refused.status, refused.reason) == (403, "Forbidden")
    assert refused.message == (
        "endpointslices.discovery.k8s.io is forbidden: User "
        f'"system:serviceaccount:{namespace}:watcher" cannot list resource "endpointslices" in API '
        f'group "discovery.k8s.io" in the namespace "{namespace}"'
    )
    grant(api, namespace, "watcher")
    assert watcher.list(SLICES, namespace) == []
    query = {"watch": "1", "timeoutSeconds": "1", "resourceVersion": "0"}
    with watcher.stream(SLICES.path(namespace), query=query) as stream:
        assert list(stream.events()) == []
    # Nothing else, nowhere else.
    assert refusal(lambda: watcher.list(PODS, namespace)).status == 403
    assert refusal(lambda: watcher.list(SLICES, "default")).status == 403
    assert refusal(lambda: watcher.list(SLICES)).status == 403
    assert refusal(lambda: watcher.delete(SLICES, namespace, "any")).status == 403
    assert refusal(lambda: watcher.get(NAMESPACES, "", namespace)).status == 403
    api.delete(BINDINGS, namespace, "watcher")
    assert refusal(lambda: watcher.list(SLICES, namespace)).status == 403


def test_a_role_of_one_account_lets_no_other_in(
    api: KubeApi, namespace: str, login: Callable[[str], KubeApi]
) -> None:
    watcher, other = login("watcher"), login("other")
    grant(api, namespace, "watcher")
    assert watcher.list(SLICES, namespace) == []
    assert refusal(lambda: other.list(SLICES, namespace)).status == 403


def test_the_token_of_a_deleted_account_is_worth_nothing(
    api: KubeApi, namespace: str, login: Callable[[str], KubeApi]
) -> None:
    watcher = login("watcher")
    grant(api, namespace, "watcher")
    assert watcher.list(SLICES, namespace) == []
    api.delete(ACCOUNTS, namespace, "watcher")
    assert refusal(lambda: watcher.list(SLICES, namespace)).status == 401


def test_everybody_may_ask_what_the_api_has(login: Callable[[str], KubeApi]) -> None:
    assert login("watcher").resource("apps/v1", "Deployment").namespaced
