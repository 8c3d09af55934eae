"""EndpointSlices: which pods, which ports, and in which condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .made_world import LABELS, NAMESPACE, World, template

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.watch import Object


@pytest.fixture
def world() -> World:
    return World()


def serve(world: World, **spec: Any) -> Object:
    wanted = {
        "selector": LABELS,
        "ports": [{"name": "grpc", "port": 80, "targetPort": "grpc", "protocol": "TCP"}],
        **spec,
    }
    metadata = {"name": "greeter", "namespace": NAMESPACE, "labels": {"team": "blue"}}
    made = world.store.create("services", {"metadata": metadata, "spec": wanted})
    world.settle()
    return made


def slices(world: World) -> list[Object]:
    return world.store.list("endpointslices.discovery.k8s.io", NAMESPACE)


def test_a_slice_says_what_kubernetes_says(world: World) -> None:
    service = serve(world, clusterIP="None")
    pod = world.create_pod("a")
    world.run("a")
    [made] = slices(world)
    assert made["metadata"]["labels"] == {
        "team": "blue",
        "kubernetes.io/service-name": "greeter",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "service.kubernetes.io/headless": "",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [{"name": "grpc", "port": 50051, "protocol": "TCP"}]
    assert made["endpoints"] == [
        {
            "addresses": ["127.9.1.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "embedded",
            "targetRef": {
                "kind": "Pod",
                "name": "a",
                "namespace": NAMESPACE,
                "uid": pod["metadata"]["uid"],
            },
        }
    ]


def conditions(world: World) -> dict[str, dict[str, bool]]:
    return {
        endpoint["targetRef"]["name"]: endpoint["conditions"]
        for piece in slices(world)
        for endpoint in piece["endpoints"]
    }


def test_conditions_follow_a_pod_through_its_life(world: World) -> None:
    serve(world)
    world.create_pod("a")
    assert conditions(world) == {}  # it has no address yet
    world.run("a", ready=False)
    assert conditions(world) == {"a": {"ready": False, "serving": False, "terminating": False}}
    world.run("a")
    assert conditions(world) == {"a": {"ready": True, "serving": True, "terminating": False}}
    world.store.delete("pods", "a", NAMESPACE)
    world.settle()
    assert conditions(world) == {"a": {"ready": False, "serving": True, "terminating": True}}
    world.end("a")
    assert conditions(world) == {}


def test_addresses_may_be_published_before_pods_are_ready(world: World) -> None:
    serve(world, publishNotReadyAddresses=True)
    world.create_pod("a")
    world.run("a", ready=False)
    assert conditions(world) == {"a": {"ready": True, "serving": False, "terminating": False}}


def test_pods_that_ended_or_are_not_selected_are_no_endpoints(world: World) -> None:
    serve(world)
    world.create_pod("done")
    world.run("done", phase="Succeeded", ready=False)
    world.create_pod("other", labels={"app": "other"})
    world.run("other")
    assert conditions(world) == {}


def test_a_service_without_a_selector_is_left_to_others(world: World) -> None:
    serve(world, selector={})
    world.create_pod("a")
    world.run("a")
    assert slices(world) == []


def test_pods_whose_named_port_differs_are_in_slices_of_their_own(world: World) -> None:
    serve(world)
    world.create_pod("a")
    world.run("a")
    other = template()["spec"]
    other["containers"][0]["ports"][0]["containerPort"] = 9000
    world.store.create(
        "pods",
        {"metadata": {"name": "b", "namespace": NAMESPACE, "labels": LABELS}, "spec": other},
    )
    world.run("b")
    ports = {
        piece["endpoints"][0]["targetRef"]["name"]: piece["ports"][0]["port"]
        for piece in slices(world)
    }
    assert ports == {"a": 50051, "b": 9000}


def test_a_hundred_endpoints_fill_a_slice(world: World) -> None:
    serve(world)
    for number in range(101):
        world.create_pod(f"p{number:03}")
        world.run(f"p{number:03}")
    assert sorted(len(piece["endpoints"]) for piece in slices(world)) == [1, 100]


def test_a_deleted_service_takes_its_slices_along(world: World) -> None:
    serve(world)
    world.create_pod("a")
    world.run("a")
    world.store.delete("services", "greeter", NAMESPACE)
    world.settle()
    assert slices(world) == []


def test_a_slice_that_somebody_deletes_comes_back(world: World) -> None:
    serve(world)
    world.create_pod("a")
    world.run("a")
    [made] = slices(world)
    world.store.delete("endpointslices.discovery.k8s.io", made["metadata"]["name"], NAMESPACE)
    world.settle()
    assert conditions(world)["a"]["ready"]


def test_a_hostname_is_told_for_a_pod_of_the_services_subdomain(world: World) -> None:
    serve(world, clusterIP="None")
    spec = {**template()["spec"], "hostname": "first", "subdomain": "greeter"}
    metadata = {"name": "a", "namespace": NAMESPACE, "labels": LABELS}
    world.store.create("pods", {"metadata": metadata, "spec": spec})
    world.run("a")
    [made] = slices(world)
    assert made["endpoints"][0]["hostname"] == "first"
