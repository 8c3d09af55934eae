"""Deployments: rolling updates, their strategies, their status."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .made_world import NAMESPACE, REVISION, World, names, template


@pytest.fixture
def world() -> World:
    return World()


def test_a_new_deployment_gets_one_replicaset_with_all_its_pods(world: World) -> None:
    world.deploy(replicas=3)
    [replicaset] = world.replicasets()
    hashed = replicaset["metadata"]["labels"]["pod-template-hash"]
    assert replicaset["metadata"]["name"] == f"greeter-{hashed}"
    assert replicaset["spec"]["selector"]["matchLabels"] == {
        "app": "greeter",
        "pod-template-hash": hashed,
    }
    assert len(world.pods()) == 3
    assert all(name.startswith(f"greeter-{hashed}-") for name in names(world.pods()))
    assert world.deployment()["metadata"]["annotations"][REVISION] == "1"


def test_status_tells_of_a_rollout_from_beginning_to_end(world: World) -> None:
    world.deploy(replicas=2)
    [replicaset] = world.replicasets()
    name = replicaset["metadata"]["name"]
    status = world.deployment()["status"]
    assert {key: status[key] for key in status if key != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "unavailableReplicas": 2,
    }
    assert world.condition("Available")["reason"] == "MinimumReplicasUnavailable"
    assert world.condition("Progressing")["message"] == f'ReplicaSet "{name}" is progressing.'
    world.run_all()
    status = world.deployment()["status"]
    assert {key: status[key] for key in status if key != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
    }
    assert world.condition("Available")["message"] == "Deployment has minimum availability."
    assert world.condition("Progressing")["reason"] == "NewReplicaSetAvailable"
    told = f'ReplicaSet "{name}" has successfully progressed.'
    assert world.condition("Progressing")["message"] == told


def test_a_rolling_update_goes_one_by_one_where_surge_is_one(world: World) -> None:
    world.deploy(replicas=3)
    world.roll_out()
    world.deploy(replicas=3, template=template("greeter:2"))
    # 25 % of 3: surge 1, unavailable 0. Each new pod that is available lets an old one go,
    # and that one's place is the next new one's.
    assert world.roll_out() == [[3, 1], [2, 2], [1, 3], [0, 3]]
    assert world.condition("Progressing")["reason"] == "NewReplicaSetAvailable"


def test_recreate_starts_nothing_before_all_old_pods_are_gone(world: World) -> None:
    world.deploy(replicas=2, strategy={"type": "Recreate"})
    world.roll_out()
    first, second = names(world.pods())
    world.deploy(replicas=2, strategy={"type": "Recreate"}, template=template("greeter:2"))
    assert world.sizes() == [0]
    world.end(first)
    assert names(world.pods()) == [second]
    world.end(second)
    assert world.sizes() == [0, 2]


def test_scaling_is_no_rollout(world: World) -> None:
    world.deploy(replicas=1)
    world.roll_out()
    world.deploy(replicas=4)
    assert world.sizes() == [4]
    assert world.condition("Progressing")["reason"] == "NewReplicaSetAvailable"
    assert world.condition("Available")["status"] == "False"


def test_rolling_back_makes_the_old_replicaset_the_newest_revision(world: World) -> None:
    world.deploy(replicas=1)
    world.roll_out()
    [first] = names(world.replicasets())
    world.deploy(replicas=1, template=template("greeter:2"))
    world.roll_out()
    world.deploy(replicas=1)
    world.roll_out()
    assert names(world.replicasets())[-1] == first
    assert world.deployment()["metadata"]["annotations"][REVISION] == "3"
    assert world.sizes() == [0, 1]


def test_a_rollout_that_stands_still_exceeds_its_deadline(world: World) -> None:
    world.deploy(replicas=1, progressDeadlineSeconds=30)
    [replicaset] = world.replicasets()
    world.pass_time(29)
    assert world.condition("Progressing")["status"] == "True"
    world.pass_time(1)
    condition = world.condition("Progressing")
    assert (condition["status"], condition["reason"]) == ("False", "ProgressDeadlineExceeded")
    name = replicaset["metadata"]["name"]
    assert condition["message"] == f'ReplicaSet "{name}" has timed out progressing.'


def test_a_pod_counts_as_available_after_its_minimum_time(world: World) -> None:
    world.deploy(replicas=1, minReadySeconds=10)
    world.run_all()
    assert world.deployment()["status"]["readyReplicas"] == 1
    assert "availableReplicas" not in world.deployment()["status"]
    world.pass_time(10)
    assert world.deployment()["status"]["availableReplicas"] == 1


def test_a_paused_deployment_scales_but_does_not_roll_out(world: World) -> None:
    world.deploy(replicas=1)
    world.roll_out()
    world.deploy(replicas=2, paused=True, template=template("greeter:2"))
    assert world.sizes() == [2]
    assert world.condition("Progressing")["reason"] == "DeploymentPaused"
    world.deploy(replicas=2, template=template("greeter:2"))
    world.roll_out()
    assert world.sizes() == [0, 2]


def test_old_replicasets_are_kept_up_to_the_limit(world: World) -> None:
    for version in range(5):
        world.deploy(replicas=1, revisionHistoryLimit=2, template=template(f"greeter:{version}"))
        world.roll_out()
    assert [each["metadata"]["annotations"][REVISION] for each in world.replicasets()] == [
        "3",
        "4",
        "5",
    ]


def test_deleting_a_deployment_takes_its_pods_along(world: World) -> None:
    world.deploy(replicas=2)
    world.roll_out()
    world.store.delete("deployments.apps", "greeter", NAMESPACE)
    world.settle()
    assert world.replicasets() == []
    assert all("deletionTimestamp" in pod["metadata"] for pod in world.pods())


def test_scaling_is_told_as_events(world: World) -> None:
    world.deploy(replicas=1)
    world.deploy(replicas=3)
    [replicaset] = names(world.replicasets())
    told = [
        event["message"]
        for event in world.store.list("events", NAMESPACE)
        if event["reason"] == "ScalingReplicaSet"
    ]
    assert told == [
        f"Scaled up replica set {replicaset} from 0 to 1",
        f"Scaled up replica set {replicaset} from 1 to 3",
    ]


@settings(max_examples=60, deadline=None)
@given(
    before=st.integers(0, 12),
    after=st.integers(0, 12),
    surge=st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "100%"])),
    unavailable=st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "100%"])),
    data=st.data(),
)
def test_every_rollout_ends_and_keeps_its_limits(
    before: int, after: int, surge: int | str, unavailable: int | str, data: st.DataObject
) -> None:
    from pytest_grpclb.clusters.embedded.controllers.rollout import resolve_limits

    world = World()
    strategy = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }
    world.deploy(replicas=before, strategy=strategy)
    world.roll_out()
    limits = resolve_limits(surge, unavailable, after)
    most = max(before, after + limits.surge)
    least = max(min(before, after - limits.unavailable), 0)
    world.deploy(replicas=after, strategy=strategy, template=template("greeter:2"))
    for _ in range(400):
        status = world.deployment()["status"]
        assert sum(world.sizes()) <= most
        assert status.get("availableReplicas", 0) >= least
        waiting = [
            pod
            for pod in world.pods()
            if pod["status"]["phase"] == "Pending" or "deletionTimestamp" in pod["metadata"]
        ]
        if not waiting:
            break
        # Pods become ready and end in any order, one at a time.
        pod = waiting[data.draw(st.integers(0, len(waiting) - 1))]
        if "deletionTimestamp" in pod["metadata"]:
            world.end(pod["metadata"]["name"])
        else:
            world.run(pod["metadata"]["name"])
    assert world.sizes()[-1] == after
    assert sum(world.sizes()) == after
    assert {pod["spec"]["containers"][0]["image"] for pod in world.pods()} <= {"greeter:2"}
