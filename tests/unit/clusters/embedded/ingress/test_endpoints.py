"""The endpoints of upstreams as names, asked and read by dnspython, which is not ours."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from pytest_grpclb.clusters.embedded.ingress.configuration import ServicePort
from pytest_grpclb.clusters.embedded.ingress.endpoints import EndpointNames, endpoints, name_of
from pytest_grpclb.clusters.embedded.network.dns import answer
from pytest_grpclb.clusters.embedded.store.store import Store

SLICES = "endpointslices.discovery.k8s.io"
UPSTREAM = ServicePort(namespace="ns", service="shop", port="grpc")
PORTS = "_endpoints._tcp.grpc.shop.ns.ingress."


class World:
    """A store, the zone on it, and what the zone says that nginx was told."""

    def __init__(self) -> None:
        self.store = Store()
        self.told: list[tuple[ServicePort, int]] = []
        self.zone = EndpointNames(
            self.store,
            nowhere="127.9.0.3",
            told=lambda upstream, count: self.told.append((upstream, count)),
        )

    def service(self, name: str = "grpc") -> None:
        self.store.create(
            "services",
            {
                "metadata": {"name": "shop", "namespace": "ns"},
                "spec": {"ports": [{"name": name, "port": 80}]},
            },
        )

    def slice(self, name: str, *addresses: str, port: int = 50051, ready: bool = True) -> None:
        wanted: dict[str, Any] = {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "labels": {"kubernetes.io/service-name": "shop"},
            },
            "ports": [{"name": "grpc", "port": port}],
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": ready}} for address in addresses
            ],
        }
        found = self.store.find(SLICES, name, "ns")
        if found is None:
            self.store.create(SLICES, wanted)
        else:
            self.store.update(SLICES, {**found, "endpoints": wanted["endpoints"]})

    def ask(self, name: str, kind: str = "A", *, over_tcp: bool = False) -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        reply = answer(query.to_wire(), self.zone, over_tcp=over_tcp)
        assert reply is not None
        return dns.message.from_wire(reply)

    def places(self) -> set[tuple[str, int]]:
        """Ask as nginx does: for the ports, then for the pods on each."""
        found = set()
        for service in self.ask(PORTS, "SRV").answer[0]:
            for pod in self.ask(service.target.to_text()).answer[0]:
                found.add((pod.address, service.port))
        return found


@pytest.fixture
def world() -> World:
    world = World()
    world.service()
    return world


def test_the_name_of_an_upstream_says_port_service_and_namespace() -> None:
    assert name_of(UPSTREAM) == "grpc.shop.ns.ingress"


def test_nginx_is_told_the_pods_that_are_ready_and_may_not_keep_the_answer(world: World) -> None:
    world.slice("one", "10.1.0.1", "10.1.0.2")
    world.slice("two", "10.1.0.3", ready=False)
    assert world.places() == {("10.1.0.1", 50051), ("10.1.0.2", 50051)}
    assert {rrset.ttl for rrset in world.ask(PORTS, "SRV").answer} == {0}


def test_pods_may_listen_on_different_ports(world: World) -> None:
    """A targetPort is a name, and each pod says which of its ports has it."""
    world.slice("one", "10.1.0.1", "10.1.0.3")
    world.slice("two", "10.1.0.2", port=50052)
    assert world.places() == {("10.1.0.1", 50051), ("10.1.0.3", 50051), ("10.1.0.2", 50052)}
    # nginx gives a port's weight to each pod behind it: pods count alike, not ports.
    weights = {service.weight for service in world.ask(PORTS, "SRV").answer[0]}
    assert weights == {100}


@pytest.mark.parametrize("with_slice", [True, False])
def test_without_endpoints_it_is_a_place_where_nobody_can_listen(
    world: World, *, with_slice: bool
) -> None:
    if with_slice:
        world.slice("one", "10.1.0.1", ready=False)
    assert world.places() == {("127.9.0.3", 0)}


def test_a_service_that_is_not_there_has_no_endpoints() -> None:
    assert World().places() == {("127.9.0.3", 0)}


def test_a_port_that_the_service_has_not_has_no_endpoints() -> None:
    world = World()
    world.service("http")
    world.slice("one", "10.1.0.1")
    assert world.places() == {("127.9.0.3", 0)}


def test_what_was_told_is_told_again_until_the_ports_are_asked_for(world: World) -> None:
    """nginx asks twice; it must not learn in between of a change that nobody recorded."""
    world.slice("one", "10.1.0.1")
    [service] = world.ask(PORTS, "SRV").answer[0]
    world.slice("one", "10.1.0.1", "10.1.0.2")
    assert [pod.address for pod in world.ask(service.target.to_text()).answer[0]] == ["10.1.0.1"]
    assert world.told == []
    assert world.places() == {("10.1.0.1", 50051), ("10.1.0.2", 50051)}
    assert world.told == [(UPSTREAM, 2)]


def test_only_what_is_new_is_recorded(world: World) -> None:
    world.slice("one", "10.1.0.1")
    for _ in range(3):
        world.places()
    assert world.told == []
    world.slice("one")
    for _ in range(3):
        world.places()
    assert world.told == [(UPSTREAM, 0)]
    world.slice("one", "10.1.0.4")
    world.places()
    assert world.told == [(UPSTREAM, 0), (UPSTREAM, 1)]


def test_more_pods_than_a_datagram_holds_are_told_over_tcp(world: World) -> None:
    world.slice("one", *(f"10.1.0.{number}" for number in range(1, 101)))
    [service] = world.ask(PORTS, "SRV").answer[0]
    target = service.target.to_text()
    assert world.ask(target).flags & dns.flags.TC
    assert len(world.ask(target, over_tcp=True).answer[0]) == 100


@pytest.mark.parametrize(
    "name",
    [
        "ingress.",
        "a.b.c.d.e.f.ingress.",
        "_other._tcp.grpc.shop.ns.ingress.",
        "x.grpc.shop.ns.ingress.",
    ],
)
def test_other_names_are_none(world: World, name: str) -> None:
    reply = world.ask(name)
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert [rrset.name.to_text() for rrset in reply.authority] == ["ingress."]


def test_a_port_without_a_name_or_number_is_none(world: World) -> None:
    world.slice("one", "10.1.0.1")
    assert endpoints(world.store, ServicePort(namespace="ns", service="shop", port="")) == ()
    assert endpoints(world.store, ServicePort(namespace="ns", service="shop", port="80")) == (
        ("10.1.0.1", 50051),
    )
