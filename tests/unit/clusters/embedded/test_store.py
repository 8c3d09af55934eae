"""The store: what it sets, what it refuses, and that every watch tells the same history."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.store.status import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    NotFoundError,
)

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Object, Store

    from .conftest import Clock


def pod(name: str = "a", **metadata: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"nodeName": "node", "terminationGracePeriodSeconds": 30},
    }


def config(name: str, value: str = "", **metadata: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", **metadata},
        "data": {"value": value},
    }


def test_a_new_object_gets_identity_version_and_time(store: Store) -> None:
    made = store.create("pods", pod("a", uid="mine", resourceVersion="9", generation=7))
    assert made["apiVersion"] == "v1"
    assert made["kind"] == "Pod"
    metadata = made["metadata"]
    assert metadata["uid"] != "mine"
    assert len(metadata["uid"]) == 36
    assert metadata["resourceVersion"] == "1"
    assert metadata["generation"] == 1
    assert metadata["creationTimestamp"] == "2026-01-31T12:00:00Z"
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert store.get("pods", "a", "default") is made


def test_a_generated_name_begins_with_the_prefix_and_is_free(store: Store) -> None:
    names = {
        store.create("pods", {"metadata": {"generateName": "web-", "namespace": "default"}})[
            "metadata"
        ]["name"]
        for _ in range(50)
    }
    assert len(names) == 50
    assert all(len(name) == len("web-") + 5 and name.startswith("web-") for name in names)


def test_a_name_is_taken_once_in_each_namespace(store: Store) -> None:
    store.create("pods", pod())
    store.create("pods", pod(namespace="other"))
    with pytest.raises(AlreadyExistsError) as caught:
        store.create("pods", pod())
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "a" already exists',
        "reason": "AlreadyExists",
        "code": 409,
        "details": {"name": "a", "kind": "pods"},
    }


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"metadata": {"name": "a"}}, "pods belong to a namespace; set metadata.namespace"),
        ({"metadata": {"namespace": "default"}}, "name or generateName is required in metadata"),
    ],
)
def test_an_object_without_a_place_is_refused(store: Store, obj: Object, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        store.create("pods", obj)
    assert str(caught.value) == message


def test_what_is_not_there_cannot_be_read_or_written(store: Store) -> None:
    assert store.find("deployments.apps", "a", "default") is None
    with pytest.raises(NotFoundError) as caught:
        store.get("deployments.apps", "a", "default")
    assert str(caught.value) == 'deployments.apps "a" not found'
    assert caught.value.details == {"name": "a", "kind": "deployments", "group": "apps"}
    with pytest.raises(NotFoundError):
        store.update("pods", pod())


def test_a_list_is_sorted_by_namespace_and_name(store: Store) -> None:
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y")):
        store.create("configmaps", config(name, namespace=namespace))
    listed = [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in store.list("configmaps")]
    assert listed == [("a", "y"), ("a", "z"), ("b", "x")]
    assert [o["metadata"]["name"] for o in store.list("configmaps", "a")] == ["y", "z"]


def test_an_update_from_a_stale_version_is_refused(store: Store) -> None:
    first = store.create("configmaps", config("a", "1"))
    store.update("configmaps", {**first, "data": {"value": "2"}})
    with pytest.raises(ConflictError) as caught:
        store.update("configmaps", {**first, "data": {"value": "3"}})
    assert str(caught.value) == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please '
        "apply your changes to the latest version and try again"
    )
    assert store.get("configmaps", "a", "default")["data"] == {"value": "2"}


def test_an_update_may_waive_the_version_but_not_the_identity(store: Store) -> None:
    first = store.create("configmaps", config("a", "1"))
    store.update("configmaps", {**first, "data": {"value": "2"}})
    store.update("configmaps", {**first, "data": {"value": "3"}}, expect=None)
    assert store.get("configmaps", "a", "default")["data"] == {"value": "3"}
    uid = first["metadata"]["uid"]
    with pytest.raises(ConflictError) as caught:
        store.update("configmaps", config("a", "4", uid="other"))
    assert str(caught.value) == (
        'Operation cannot be fulfilled on configmaps "a": Precondition failed: UID in '
        f"precondition: other, UID in object meta: {uid}"
    )


def test_a_write_that_changes_nothing_is_no_event(store: Store) -> None:
    made = store.create("configmaps", config("a", "1"))
    watch = store.watch("configmaps")
    assert store.update("configmaps", config("a", "1")) is made
    assert store.revision == 1
    assert watch.take() == []


def test_generation_counts_changes_of_the_spec_only(store: Store) -> None:
    made = store.create("pods", pod())
    labelled = store.update(
        "pods", {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
    )
    assert labelled["metadata"]["generation"] == 1
    respecified = store.update("pods", {**labelled, "spec": {**made["spec"], "hostname": "x"}})
    assert respecified["metadata"]["generation"] == 2
    told = store.update_status("pods", {**respecified, "status": {"phase": "Running"}})
    assert told["metadata"]["generation"] == 2
    assert told["metadata"]["resourceVersion"] == "4"


def test_spec_and_status_are_written_by_different_doors(store: Store) -> None:
    made = store.create("pods", pod())
    both = {**made, "spec": {"nodeName": "other"}, "status": {"phase": "Running"}}
    after = store.update("pods", both)
    assert after["status"]["phase"] == "Pending"
    after = store.update_status("pods", {**both, "spec": {"nodeName": "third"}}, expect=None)
    assert after["spec"] == {"nodeName": "other"}
    assert after["status"] == {"phase": "Running"}


def test_what_was_given_out_is_never_changed(store: Store) -> None:
    made = store.create("pods", pod())
    seen = {**made, "metadata": {**made["metadata"]}}
    store.update_status("pods", {**made, "status": {"phase": "Running"}})
    store.delete("pods", "a", "default")
    store.delete("pods", "a", "default", grace_s=0)
    assert made == seen


def test_a_dry_run_leaves_everything_as_it_is(store: Store) -> None:
    tried = store.create("pods", pod("b"), dry_run=True)
    assert "uid" in tried["metadata"]
    assert "resourceVersion" not in tried["metadata"]
    made = store.create("pods", pod())
    store.update_status("pods", {**made, "status": {"phase": "Failed"}}, dry_run=True)
    store.update("pods", {**made, "spec": {}}, dry_run=True)
    store.delete("pods", "a", "default", grace_s=0, dry_run=True)
    assert store.list("pods") == [made]
    assert store.revision == 1


# --- deletion


def test_a_pod_stays_for_its_grace_until_somebody_ends_it(store: Store, clock: Clock) -> None:
    store.create("pods", pod())
    marked = store.delete("pods", "a", "default")
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-31T12:00:30Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    clock.moment += timedelta(seconds=7)
    assert store.delete("pods", "a", "default") is marked
    shortened = store.delete("pods", "a", "default", grace_s=10)
    assert shortened["metadata"]["deletionTimestamp"] == "2026-01-31T12:00:10Z"
    prolonged = store.delete("pods", "a", "default", grace_s=60)
    assert prolonged["metadata"]["deletionGracePeriodSeconds"] == 10
    store.delete("pods", "a", "default", grace_s=0)
    assert store.list("pods") == []


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({}, {}),
        ({"nodeName": "node"}, {"phase": "Failed"}),
        ({"nodeName": "n"}, {"phase": "Succeeded"}),
    ],
)
def test_a_pod_of_which_nothing_runs_goes_at_once(
    store: Store, spec: Object, status: Object
) -> None:
    store.create("pods", {**pod(), "spec": spec, "status": status})
    store.delete("pods", "a", "default")
    assert store.list("pods") == []


def test_an_object_with_finalizers_stays_until_the_last_is_gone(store: Store) -> None:
    made = store.create("configmaps", config("a", finalizers=["x.com/one", "x.com/two"]))
    marked = store.delete("configmaps", "a", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    one = {**made["metadata"], "finalizers": ["x.com/two"], "resourceVersion": None}
    store.update("configmaps", {**made, "metadata": one})
    assert store.list("configmaps") != []
    last = store.update("configmaps", {**made, "metadata": {**one, "finalizers": []}})
    assert store.list("configmaps") == []
    assert last["metadata"]["resourceVersion"] == "4"


@pytest.mark.parametrize(
    ("propagation", "finalizers"),
    [
        ("Foreground", ["x.com/own", "foregroundDeletion"]),
        ("Orphan", ["x.com/own", "orphan"]),
        ("Background", ["x.com/own"]),
        (None, ["x.com/own"]),
    ],
)
def test_propagation_is_a_finalizer_for_the_garbage_collector(
    store: Store, propagation: Any, finalizers: list[str]
) -> None:
    store.create("configmaps", config("a", finalizers=["x.com/own"]))
    marked = store.delete("configmaps", "a", "default", propagation=propagation)
    assert marked["metadata"]["finalizers"] == finalizers


def test_a_namespace_stays_terminating_until_it_is_removed(store: Store) -> None:
    store.create("namespaces", {"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}})
    marked = store.delete("namespaces", "a")
    assert marked["status"] == {"phase": "Terminating"}
    with pytest.raises(ConflictError):
        store.remove("namespaces", "a", uid="other")
    store.remove("namespaces", "a", uid=marked["metadata"]["uid"])
    assert store.list("namespaces") == []


def test_deletion_checks_what_it_was_told_to(store: Store) -> None:
    store.create("configmaps", config("a"))
    with pytest.raises(ConflictError):
        store.delete("configmaps", "a", "default", uid="other")
    with pytest.raises(ConflictError) as caught:
        store.delete("configmaps", "a", "default", expect="7")
    assert str(caught.value) == (
        'Operation cannot be fulfilled on configmaps "a": Precondition failed: ResourceVersion in '
        "precondition: 7, ResourceVersion in object meta: 1"
    )
