"""Only what carries the run's label is deleted, at the end and at the next start."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters import ClusterRequest
from pytest_grpclb.clusters.api.kube import NAMESPACES, KubeApi, Resource
from pytest_grpclb.clusters.kubeconfig import KubeconfigCluster
from pytest_grpclb.clusters.namespaces import (
    ABANDONED_AFTER,
    STUCK_AFTER,
    create_namespace,
    delete_abandoned,
    delete_namespace,
    mark_kept,
    stuck_namespaces,
)
from pytest_grpclb.conformance.subject import CONFIG_MAPS
from pytest_grpclb.deployment import temporary_namespace
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

RUN = "abc123-main"
RBAC = "rbac.authorization.k8s.io/v1"
ACCOUNTS = Resource("v1", "serviceaccounts", namespaced=True)
CLUSTER_ROLES = Resource(RBAC, "clusterroles", namespaced=False)
CLUSTER_BINDINGS = Resource(RBAC, "clusterrolebindings", namespaced=False)
NAME = "grpclb-abc123-main-1"


@pytest.fixture(autouse=True)
def _clean(api: KubeApi) -> Iterator[None]:
    yield
    for name in (NAME, "grpclb-theirs"):
        api.delete(NAMESPACES, "", name)


def standing(api: KubeApi) -> set[str]:
    found = api.list(NAMESPACES)
    return {
        each["metadata"]["name"] for each in found if "deletionTimestamp" not in each["metadata"]
    }


def test_a_name_that_is_taken_is_an_error_and_its_holder_stays(api: KubeApi) -> None:
    api.request("POST", NAMESPACES.path(), body={"metadata": {"name": NAME}})
    with (
        pytest.raises(ApiError, match="answered 409: AlreadyExists"),
        temporary_namespace(api, NAME, run=RUN),
    ):
        pass
    delete_namespace(api, NAME, run=RUN)
    assert NAME in standing(api)


def test_what_another_run_has_made_is_not_deleted(api: KubeApi) -> None:
    create_namespace(api, NAME, run="other-main")
    delete_namespace(api, NAME, run=RUN)
    assert NAME in standing(api)
    delete_namespace(api, NAME, run="other-main")
    assert NAME not in standing(api)


def test_what_runs_that_died_left_behind_goes_after_the_age_limit(api: KubeApi) -> None:
    create_namespace(api, NAME, run=RUN)
    body = {"metadata": {"name": "grpclb-theirs"}}  # by its name it might be ours
    api.request("POST", NAMESPACES.path(), body=body)
    now = datetime.now(UTC)
    assert delete_abandoned(api, now=now) == ()
    later = now + ABANDONED_AFTER + timedelta(minutes=1)
    assert delete_abandoned(api, now=later) == (NAME,)
    assert NAME not in standing(api)
    assert "grpclb-theirs" in standing(api)


def test_what_was_kept_stays_whatever_its_age(api: KubeApi) -> None:
    create_namespace(api, NAME, run=RUN)
    assert mark_kept(api, NAME)
    later = datetime.now(UTC) + ABANDONED_AFTER + timedelta(minutes=1)
    assert delete_abandoned(api, now=later) == ()
    assert NAME in standing(api)


def test_a_user_without_rights_beyond_namespaces_can_run_and_is_told_what_was_left_out(
    api: KubeApi, embedded_cluster: EmbeddedCluster, namespace: str, tmp_path: Path
) -> None:
    api.request("POST", ACCOUNTS.path(namespace), body={"metadata": {"name": "ci"}})
    rules = [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create", "delete", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    role = f"ci-{namespace}"
    body = {"metadata": {"name": role}, "rules": rules}
    api.request("POST", CLUSTER_ROLES.path(), body=body)
    binding = {
        "metadata": {"name": role},
        "roleRef": {"apiGroup": RBAC.partition("/")[0], "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": namespace}],
    }
    api.request("POST", CLUSTER_BINDINGS.path(), body=binding)
    asked = api.request("POST", ACCOUNTS.path(namespace, "ci", "token"), body={"spec": {}})
    config = json.loads(embedded_cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": asked["status"]["token"]}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    told: list[str] = []
    cluster = KubeconfigCluster(
        ClusterRequest(
            directory=tmp_path,
            kubeconfig=str(kubeconfig),
            context=embedded_cluster.context,
            image="programs:1",
            tell=told.append,
        )
    )
    try:
        cluster.start()
        cluster.wait()
        user = KubeApi(cluster.kubeconfig, cluster.context, scratch=tmp_path)
        with temporary_namespace(user, NAME, run=RUN):
            assert NAME in standing(api)
            assert not mark_kept(user, NAME)
        user.close()
    finally:
        cluster.close()
        api.delete(CLUSTER_BINDINGS, "", role)
        api.delete(CLUSTER_ROLES, "", role)
    assert NAME not in standing(api)
    assert told == [
        "grpclb: namespaces of runs that died were not looked for, "
        "because this user may not list namespaces"
    ]


def test_a_namespace_that_cannot_go_is_named_with_its_finalizer_and_not_waited_for(
    api: KubeApi, embedded_cluster: EmbeddedCluster, tmp_path: Path
) -> None:
    told: list[str] = []

    def cluster() -> KubeconfigCluster:
        return KubeconfigCluster(
            ClusterRequest(
                directory=tmp_path,
                kubeconfig=str(embedded_cluster.kubeconfig),
                context=embedded_cluster.context,
                image="programs:1",
                run="abc123",
                tell=told.append,
            )
        )

    first = cluster()
    first.start()
    first.wait()
    with temporary_namespace(api, NAME, run=RUN):
        metadata = {"name": "held", "finalizers": ["example.com/held"]}
        api.request("POST", CONFIG_MAPS.path(NAME), body={"metadata": metadata})
    until(lambda: stuck_namespaces(api) != ())
    since = api.get(NAMESPACES, "", NAME)["metadata"]["deletionTimestamp"]
    line = (
        f"grpclb: namespace {NAME!r} was deleted at {since} and has not gone: Some content in "
        "the namespace has finalizers remaining: example.com/held in 1 resource instances; if it "
        f"stays, whoever set that has to mend it, see `kubectl get namespace {NAME} -o yaml`"
    )
    assert told == []
    first.close()
    assert told == [line]
    second = cluster()
    second.start()
    second.wait()  # it may be that it only takes a moment
    assert told == [line]
    second.close()
    now = datetime.now(UTC)
    assert stuck_namespaces(api, deleted_before=now - STUCK_AFTER) == ()
    [later] = stuck_namespaces(api, deleted_before=now + timedelta(seconds=2))
    assert f"grpclb: {later}" == line
    assert stuck_namespaces(api, run="other-main") == ()
    api.request(
        "PATCH",
        CONFIG_MAPS.path(NAME, "held"),
        body={"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )
    until(lambda: NAME not in {each["metadata"]["name"] for each in api.list(NAMESPACES)})


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)  # the pause between two looks


@pytest.mark.parametrize(
    ("files", "command"),
    [
        (["one two"], "kubectl '--kubeconfig={}/one two' --context=work delete namespace ns"),
        (
            ["one", "two"],
            "KUBECONFIG={0}/one:{0}/two kubectl --context=work delete namespace ns",
        ),
    ],
)
def test_the_command_that_deletes_finds_every_kubeconfig(
    tmp_path: Path, files: list[str], command: str
) -> None:
    request = ClusterRequest(
        directory=tmp_path,
        kubeconfig=":".join(str(tmp_path / name) for name in files),
        context="work",
    )
    assert KubeconfigCluster(request).deletion_command("ns") == command.format(tmp_path)


@pytest.mark.parametrize(
    ("holders", "told"),
    [
        (["kubernetes.io/pvc-protection"], False),
        (["kubernetes.io/pvc-protection", "example.com/held"], True),
    ],
)
def test_what_kubernetes_own_finalizers_hold_goes_by_itself(
    api: KubeApi, holders: list[str], told: bool
) -> None:
    with temporary_namespace(api, NAME, run=RUN):
        for number, holder in enumerate(holders):
            metadata = {"name": f"held-{number}", "finalizers": [holder]}
            api.request("POST", CONFIG_MAPS.path(NAME), body={"metadata": metadata})
    later = datetime.now(UTC) + timedelta(days=1)
    until(lambda: stuck_namespaces(api, deleted_before=later) != ())  # a minute later it is said
    assert bool(stuck_namespaces(api, run=RUN)) == told
    for number in range(len(holders)):
        api.request(
            "PATCH",
            CONFIG_MAPS.path(NAME, f"held-{number}"),
            body={"metadata": {"finalizers": None}},
            content_type="application/merge-patch+json",
        )
    until(lambda: NAME not in {each["metadata"]["name"] for each in api.list(NAMESPACES)})
