"""Which servers EndpointSlices give: those that are ready and stay, each pod once."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.programs.balancer_endpoints import Endpoints, Server

PORTS = [{"name": "grpc", "port": 50051, "protocol": "TCP"}]


def endpoint(address: str, uid: str | None = "same", **conditions: bool | None) -> dict[str, Any]:
    made: dict[str, Any] = {"addresses": [address], "conditions": conditions}
    if uid is not None:
        made["targetRef"] = {"kind": "Pod", "uid": f"uid-{address}" if uid == "same" else uid}
    return made


def endpoint_slice(name: str, *endpoints: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "addressType": "IPv4",
        "ports": PORTS,
        "endpoints": list(endpoints),
        **fields,
    }


def told(*slices: dict[str, Any]) -> list[str]:
    endpoints = Endpoints("grpc")
    endpoints.replace(slices)
    return [str(server) for server in endpoints.servers()]


def test_a_server_is_an_address_a_port_and_the_pods_uid() -> None:
    endpoints = Endpoints("grpc")
    endpoints.replace([endpoint_slice("a", endpoint("10.0.0.1", ready=True))])
    assert endpoints.servers() == (
        Server(token="uid-10.0.0.1", address=bytes([10, 0, 0, 1]), port=50051),
    )


@pytest.mark.parametrize(
    ("conditions", "used"),
    [
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": None}, True),
        ({}, True),
        ({"ready": False, "serving": False, "terminating": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
        # publishNotReadyAddresses: ready to the end.
        ({"ready": True, "serving": True, "terminating": True}, False),
    ],
)
def test_only_ready_endpoints_that_do_not_terminate_are_used(
    conditions: dict[str, bool | None], used: bool
) -> None:
    assert bool(told(endpoint_slice("a", endpoint("10.0.0.1", "pod", **conditions)))) is used


def test_a_pod_in_two_slices_gets_one_share() -> None:
    one = endpoint("10.0.0.1", "pod")
    assert told(endpoint_slice("a", one), endpoint_slice("b", one)) == ["10.0.0.1:50051"]


def test_a_pod_of_both_ip_families_gets_one_share() -> None:
    four = endpoint_slice("a", endpoint("10.0.0.1", "pod"))
    six = endpoint_slice("b", endpoint("fd00::1", "pod"), addressType="IPv6")
    assert told(six, four) == ["10.0.0.1:50051"]
    assert told(six) == ["[fd00::1]:50051"]


def test_other_ports_and_names_instead_of_addresses_are_left_out() -> None:
    ready = endpoint("10.0.0.1")
    other = endpoint_slice("a", ready, ports=[{"name": "metrics", "port": 9090}])
    unnamed = endpoint_slice("b", ready, ports=[{"port": 9090}])
    named = endpoint_slice("c", endpoint("pods.example.com"), addressType="FQDN")
    nothing = endpoint_slice("d", ports=None, endpoints=None)
    assert told(other, unnamed, named, nothing) == []
    both = [{"name": "metrics", "port": 9090}, *PORTS]
    assert told(endpoint_slice("a", ready, ports=both)) == ["10.0.0.1:50051"]


def test_an_endpoint_that_is_no_pod_is_told_apart_by_its_address() -> None:
    endpoints = Endpoints("grpc")
    endpoints.replace([endpoint_slice("a", endpoint("10.0.0.9", None))])
    [server] = endpoints.servers()
    assert server.token == "10.0.0.9:50051"


def test_tokens_are_no_longer_than_clients_keep() -> None:
    endpoints = Endpoints("grpc")
    endpoints.replace([endpoint_slice("a", endpoint("10.0.0.9", "x" * 60))])
    assert [server.token for server in endpoints.servers()] == ["x" * 50]


def test_changes_are_taken_one_by_one() -> None:
    endpoints = Endpoints("grpc")
    endpoints.take("ADDED", endpoint_slice("a", endpoint("10.0.0.1")))
    endpoints.take("ADDED", endpoint_slice("b", endpoint("10.0.0.2")))
    assert list(map(str, endpoints.servers())) == ["10.0.0.1:50051", "10.0.0.2:50051"]
    endpoints.take("MODIFIED", endpoint_slice("a", endpoint("10.0.0.3")))
    assert list(map(str, endpoints.servers())) == ["10.0.0.2:50051", "10.0.0.3:50051"]
    endpoints.take("DELETED", endpoint_slice("b", endpoint("10.0.0.2")))
    endpoints.take("DELETED", endpoint_slice("never-seen"))
    assert list(map(str, endpoints.servers())) == ["10.0.0.3:50051"]


def test_a_list_replaces_what_was_known() -> None:
    endpoints = Endpoints("grpc")
    endpoints.take("ADDED", endpoint_slice("gone", endpoint("10.0.0.1")))
    endpoints.replace([endpoint_slice("b", endpoint("10.0.0.2"))])
    assert list(map(str, endpoints.servers())) == ["10.0.0.2:50051"]
