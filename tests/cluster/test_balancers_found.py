"""Clients find balancers the Kubernetes way: SRV records of a Service port named ``grpclb``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.message
import dns.query
import dns.rdatatype

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, PODS, KubeApi

from .test_services import name_server, until

if TYPE_CHECKING:
    from typing import Any

__all__ = ["name_server"]

BALANCERS = "app.kubernetes.io/component=balancer"


def ask(server: tuple[str, int], name: str) -> tuple[dict[str, int], dict[str, str]]:
    """Return the ports by host that SRV records tell, and the addresses beside them, by host."""
    query = dns.message.make_query(name, "SRV", use_edns=0, payload=4096)  # or it is truncated
    reply = dns.query.udp(query, server[0], port=server[1], timeout=5)
    hosts = {
        record.target.to_text(): record.port
        for answer in reply.answer
        for record in answer
        if record.rdtype == dns.rdatatype.SRV
    }
    beside = {each.name.to_text(): record.address for each in reply.additional for record in each}
    return hosts, beside


def test_srv_records_name_the_ready_balancers_and_nobody_else(
    api: KubeApi, namespace: str, name_server: tuple[str, int]
) -> None:
    image = {"repository": "pytest-grpclb", "tag": "dev"}
    values: dict[str, Any] = {
        "strategy": "lookaside",
        "backend": {"selector": {"app": "none"}},
        "driver": {"image": image},
    }
    rendered = render(
        charts_directory() / "strategy", values=values, release="rel", namespace=namespace
    )
    api.apply(rendered, namespace=namespace)
    domain = f"{namespace}.svc.cluster.local."
    name = f"_grpclb._tcp.rel-lookaside.{domain}"

    def expected() -> tuple[dict[str, int], dict[str, str]]:
        """What the records should be for the balancers that are ready."""
        addresses = []
        for pod in api.list(PODS, namespace, selector=BALANCERS):
            conditions = {
                each["type"]: each["status"] for each in pod["status"].get("conditions", ())
            }
            if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                addresses.append(pod["status"]["podIP"])
        by_host = {
            f"{address.replace('.', '-')}.rel-lookaside.{domain}": address for address in addresses
        }
        return dict.fromkeys(by_host, 50053), by_host

    def settled(balancers: int) -> dict[str, str]:
        until(lambda: len(expected()[1]) == balancers and ask(name_server, name) == expected())
        return expected()[1]

    first = settled(2)
    scale = {"spec": {"replicas": 3}}
    path = DEPLOYMENTS.path(namespace, "rel-balancer", "scale")
    api.request("PATCH", path, body=scale, content_type="application/merge-patch+json")
    assert settled(3).items() > first.items()
    for pod in api.list(PODS, namespace, selector=BALANCERS):
        api.delete(PODS, namespace, pod["metadata"]["name"], grace_s=0)
    until(lambda: not expected()[1].keys() & first.keys())
    assert not settled(3).keys() & first.keys()
    # The Service of the backends, which nobody is behind, is no name at all.
    assert ask(name_server, f"_grpc._tcp.rel-backends.{domain}") == ({}, {})
