"""What goes when its owner or its namespace goes, and what stays."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.controllers.services import ServiceAddresses
from pytest_grpclb.clusters.embedded.network.network import Block
from pytest_grpclb.clusters.embedded.store.status import InvalidError
from pytest_grpclb.clusters.embedded.store.store import Store

from .made_world import NAMESPACE, World, names


@pytest.fixture
def world() -> World:
    return World()


def config_map(world: World, name: str, *owners: str, blocks: bool = False) -> Any:
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner,
            "uid": world.store.get("configmaps", owner, NAMESPACE)["metadata"]["uid"],
            "blockOwnerDeletion": blocks,
        }
        for owner in owners
    ]
    metadata = {"name": name, "namespace": NAMESPACE, "ownerReferences": references}
    made = world.store.create("configmaps", {"metadata": metadata})
    world.settle()
    return made


def left(world: World) -> list[str]:
    return names(world.store.list("configmaps", NAMESPACE))


def test_in_the_background_the_owner_goes_first_and_the_owned_follow(world: World) -> None:
    config_map(world, "a")
    config_map(world, "b", "a")
    config_map(world, "c", "b")
    world.store.delete("configmaps", "a", NAMESPACE, propagation="Background")
    assert left(world) == ["b", "c"]
    world.settle()
    assert left(world) == []


def test_in_the_foreground_the_owner_waits_for_what_blocks_it(world: World) -> None:
    config_map(world, "a")
    held = config_map(world, "b", "a", blocks=True)
    metadata = {**held["metadata"], "finalizers": ["example.com/wait"]}
    world.store.update("configmaps", {**held, "metadata": metadata})
    world.store.delete("configmaps", "a", NAMESPACE, propagation="Foreground")
    world.settle()
    assert left(world) == ["a", "b"]
    held = world.store.get("configmaps", "b", NAMESPACE)
    world.store.update("configmaps", {**held, "metadata": {**held["metadata"], "finalizers": []}})
    world.settle()
    assert left(world) == []


def test_orphans_stay_and_forget_their_owner(world: World) -> None:
    config_map(world, "a")
    config_map(world, "b", "a")
    world.store.delete("configmaps", "a", NAMESPACE, propagation="Orphan")
    world.settle()
    assert left(world) == ["b"]
    assert "ownerReferences" not in world.store.get("configmaps", "b", NAMESPACE)["metadata"]


def test_what_has_another_owner_left_stays(world: World) -> None:
    config_map(world, "a")
    config_map(world, "b")
    config_map(world, "c", "a", "b")
    world.store.delete("configmaps", "a", NAMESPACE)
    world.settle()
    assert left(world) == ["b", "c"]
    world.store.delete("configmaps", "b", NAMESPACE)
    world.settle()
    assert left(world) == []


def test_what_names_an_owner_that_never_was_goes(world: World) -> None:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "no-such-uid"}
    metadata = {"name": "b", "namespace": NAMESPACE, "ownerReferences": [reference]}
    world.store.create("configmaps", {"metadata": metadata})
    world.settle()
    assert left(world) == []


def test_a_namespace_goes_when_its_last_pod_has_ended(world: World) -> None:
    world.deploy(replicas=2)
    world.run_all()
    config_map(world, "a")
    pods = names(world.pods())
    world.store.delete("namespaces", NAMESPACE)
    world.settle()
    namespace = world.store.get("namespaces", NAMESPACE)
    assert namespace["status"]["phase"] == "Terminating"
    assert left(world) == []
    for pod in pods:
        world.end(pod)
    assert world.store.find("namespaces", NAMESPACE) is None
    assert world.store.list("events", NAMESPACE) == []


def test_a_namespace_has_a_service_account(world: World) -> None:
    assert names(world.store.list("serviceaccounts", NAMESPACE)) == ["default"]


# --- addresses of Services


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "greeter", "namespace": NAMESPACE}, "spec": spec}


def test_services_get_addresses_one_after_the_other() -> None:
    store = Store()
    admit = ServiceAddresses(store, Block(9).services()).admit
    first = admit("services", service(type="ClusterIP"))
    second = admit("services", service(clusterIP=""))
    assert first["spec"]["clusterIP"] == "127.9.128.1"
    assert second["spec"]["clusterIPs"] == ["127.9.128.2"]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("services", service(clusterIP="None")),
        ("services", service(type="ExternalName", externalName="example.com")),
        ("configmaps", {"metadata": {"name": "a"}}),
    ],
)
def test_what_needs_no_address_is_left_as_it_is(kind: str, given: dict[str, Any]) -> None:
    assert ServiceAddresses(Store(), Block(9).services()).admit(kind, given) == given


def test_an_address_may_be_chosen_once() -> None:
    store = Store()
    admit = ServiceAddresses(store, Block(9).services()).admit
    store.create("services", admit("services", service(clusterIP="127.9.200.1")))
    with pytest.raises(InvalidError) as caught:
        admit("services", service(clusterIP="127.9.200.1"))
    assert str(caught.value) == (
        'Service "greeter" is invalid: spec.clusterIP: Invalid value: "127.9.200.1": '
        "provided IP is already allocated"
    )
    store.delete("services", "greeter", NAMESPACE)
    assert admit("services", service(clusterIP="127.9.200.1"))


def test_an_address_outside_the_range_is_refused() -> None:
    admit = ServiceAddresses(Store(), Block(9).services()).admit
    with pytest.raises(InvalidError) as caught:
        admit("services", service(clusterIP="10.0.0.1"))
    assert str(caught.value) == (
        'Service "greeter" is invalid: spec.clusterIP: Invalid value: "10.0.0.1": '
        "the provided IP is not in 127.9.128.1 to 127.9.255.254"
    )
