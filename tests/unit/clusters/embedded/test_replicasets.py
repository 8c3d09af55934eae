"""ReplicaSets: how many pods, which go first, adoption and release."""

from __future__ import annotations

import pytest

from .made_world import LABELS, NAMESPACE, World, names, template


@pytest.fixture
def world() -> World:
    world = World()
    world.store.create(
        "replicasets.apps",
        {
            "metadata": {"name": "set", "namespace": NAMESPACE},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": LABELS},
                "template": template(),
            },
        },
    )
    world.settle()
    return world


def scale(world: World, replicas: int) -> None:
    found = world.store.get("replicasets.apps", "set", NAMESPACE)
    spec = {**found["spec"], "replicas": replicas}
    world.store.update("replicasets.apps", {**found, "spec": spec})
    world.settle()


def staying(world: World) -> list[str]:
    return names([pod for pod in world.pods() if "deletionTimestamp" not in pod["metadata"]])


def test_a_pod_that_is_gone_or_has_ended_is_replaced(world: World) -> None:
    first, second, third = names(world.pods())
    world.run_all()
    world.store.delete("pods", first, NAMESPACE, grace_s=0)
    world.run(second, phase="Failed", ready=False)
    assert len(staying(world)) == 4  # the failed one stays to be looked at, and does not count
    assert {second, third} <= set(staying(world))


def test_pods_carry_their_owner_and_labels(world: World) -> None:
    uid = world.store.get("replicasets.apps", "set", NAMESPACE)["metadata"]["uid"]
    for pod in world.pods():
        assert pod["metadata"]["labels"] == LABELS
        assert pod["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "set",
                "uid": uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]


def test_pods_that_are_not_ready_go_first(world: World) -> None:
    first, second, third = names(world.pods())
    world.run(first)
    world.run(second, ready=False)
    world.run(third)
    scale(world, 2)
    assert staying(world) == [first, third]


def test_of_ready_pods_the_ones_ready_last_go_first(world: World) -> None:
    first, second, third = names(world.pods())
    for name in (second, first, third):
        world.run(name)
        world.pass_time(5)
    scale(world, 1)
    assert staying(world) == [second]


def test_a_deletion_cost_decides_before_age(world: World) -> None:
    world.run_all()
    dear, *others = world.pods()
    for pod, cost in ((dear, "100"), *((other, "-1") for other in others)):
        annotations = {"controller.kubernetes.io/pod-deletion-cost": cost}
        metadata = {**pod["metadata"], "annotations": annotations}
        world.store.update("pods", {**pod, "metadata": metadata})
    scale(world, 1)
    assert staying(world) == names([dear])


def test_a_pod_whose_labels_change_is_released_and_replaced(world: World) -> None:
    world.run_all()
    pod = world.pods()[0]
    metadata = {**pod["metadata"], "labels": {"app": "looked-at"}}
    world.store.update("pods", {**pod, "metadata": metadata})
    world.settle()
    released = world.store.get("pods", pod["metadata"]["name"], NAMESPACE)
    assert "ownerReferences" not in released["metadata"]
    assert len(world.pods()) == 4


def test_a_pod_that_nobody_owns_is_adopted_and_counts(world: World) -> None:
    world.run_all()
    world.create_pod("stray")
    assert len(staying(world)) == 3
    # The stray one is not ready, so it is the one too many; and it never ran, so it is gone.
    assert "stray" not in names(world.pods())


def test_status_counts_ready_and_available_pods(world: World) -> None:
    first, second, _ = names(world.pods())
    world.run(first)
    world.run(second, ready=False)
    status = world.store.get("replicasets.apps", "set", NAMESPACE)["status"]
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 1,
    }


def test_creating_and_deleting_pods_is_told_as_events(world: World) -> None:
    created = names(world.pods())
    scale(world, 2)
    [gone] = set(created) - set(names(world.pods()))
    told = sorted(
        (event["reason"], event["message"])
        for event in world.store.list("events", NAMESPACE)
        if event["involvedObject"]["kind"] == "ReplicaSet"
    )
    assert told == [
        *(("SuccessfulCreate", f"Created pod: {name}") for name in created),
        ("SuccessfulDelete", f"Deleted pod: {gone}"),
    ]
