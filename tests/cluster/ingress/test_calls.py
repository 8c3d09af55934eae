"""Calls from outside through an Ingress of the embedded cluster, by a real nginx."""

from __future__ import annotations

import dataclasses
import ssl
import stat
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.asserts import (
    assert_even_spread,
    assert_ingress_reachable,
    assert_no_failed_calls,
    assert_pinned,
    assert_rebalanced,
    assert_redirects_to_https,
    assert_tls_terminated,
)
from pytest_grpclb.certificates import Authority, tls_secret
from pytest_grpclb.clusters.api.kube import EVENTS, KubeApi
from pytest_grpclb.ingress import probes

from .ingresses import FAKE, INGRESSES, SERVICES, patch, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
    from pytest_grpclb.handle import Grpclb


# --- it works


def test_tls_ends_at_the_ingress_and_pods_are_reached_in_plaintext(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed()
    assert_ingress_reachable(grpclb.ingress)
    assert_tls_terminated(grpclb.ingress)
    assert_redirects_to_https(grpclb.ingress)
    assert grpclb.ingress.answer().transport == "plaintext"
    assert grpclb.ingress.handshake().alpn == "h2"


def test_tls_goes_end_to_end_by_one_value(installed: Callable[..., Grpclb]) -> None:
    grpclb = installed(tls="end-to-end")
    assert_ingress_reachable(grpclb.ingress)
    assert_tls_terminated(grpclb.ingress)
    assert grpclb.ingress.answer().transport == "tls"
    assert_even_spread(grpclb.drive())


def test_one_worker_makes_an_exact_round_robin_whatever_the_channels(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed(replicas=3)
    traffic = grpclb.drive(channels=3)
    assert_no_failed_calls(traffic)
    verdict = assert_even_spread(traffic)
    if traffic.picker_rebuilds == 0:  # else an earlier test's Ingress went meanwhile: a reload
        assert verdict.test == "exact round-robin bound"
        assert max(verdict.counts.values()) - min(verdict.counts.values()) <= 1


def test_traffic_follows_pods_that_come_go_and_die(installed: Callable[..., Grpclb]) -> None:
    grpclb = installed(replicas=2)
    with grpclb.traffic(rate=400) as traffic:
        grpclb.scale(4)
        assert_rebalanced(traffic)
        grpclb.scale(2)
        assert_rebalanced(traffic)
        grpclb.kill()
        assert_rebalanced(traffic)


def test_a_rolling_restart_at_200_calls_a_second_fails_no_call(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed(replicas=3)
    with grpclb.traffic(rate=200) as traffic:
        grpclb.restart()
        wait_until(lambda: len(grpclb._deployment.watch.pods()) == 3)  # old ones have gone
        assert_no_failed_calls(traffic.stop())


def test_passed_through_tls_ends_in_the_pods_and_is_pinned(
    installed: Callable[..., Grpclb],
) -> None:
    """The connection is the unit again, as through a ClusterIP: it goes to the Service's own."""
    grpclb = installed(
        tls="end-to-end", annotations={"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
    )
    traffic = dataclasses.replace(
        grpclb.drive(calls=200), mechanism=grpclb.strategy.mechanism, proxied=False, pickers=None
    )
    assert_pinned(traffic)
    presented = grpclb.ingress.handshake()
    assert presented.leaf_der != grpclb.ingress.certificate_der  # the pod's own
    assert grpclb.ingress.answer().transport == "tls"


# --- several hosts and paths, streams that go on, keys that stay private


def test_each_host_gets_its_own_certificate_and_paths_lead_where_they_say(
    embedded_cluster: EmbeddedCluster, api: KubeApi, namespace: str
) -> None:
    authority = Authority()
    hosts = {name: authority.issue(f"{name}.{namespace}.example.com") for name in ("one", "two")}
    wild = authority.issue(f"*.wild.{namespace}.example.com")
    api.apply(
        [tls_secret(name, pair) for name, pair in {**hosts, "wild": wild}.items()],
        namespace=namespace,
    )
    service = {"service": {"name": "none", "port": {"number": 80}}}
    paths = [
        {"path": "/exact", "pathType": "Exact", "backend": service},
        {"path": "/prefix", "pathType": "Prefix", "backend": service},
    ]
    names = [f"one.{namespace}.example.com", f"two.{namespace}.example.com"]
    everywhere = f"*.wild.{namespace}.example.com"
    api.apply(
        [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {
                    "name": "hosts",
                    "annotations": {"nginx.ingress.kubernetes.io/ssl-redirect": "false"},
                },
                "spec": {
                    "ingressClassName": "nginx",
                    "tls": [
                        {"hosts": [host], "secretName": name}
                        for host, name in zip(
                            (*names, everywhere), ("one", "two", "wild"), strict=True
                        )
                    ],
                    "rules": [
                        {"host": host, "http": {"paths": paths}} for host in (*names, everywhere)
                    ],
                },
            }
        ],
        namespace=namespace,
    )

    def served() -> bool:
        status = api.get(INGRESSES, namespace, "hosts").get("status", {})
        return bool(status.get("loadBalancer", {}).get("ingress"))

    wait_until(served)
    https = embedded_cluster.ingress_address(https=True)
    http = embedded_cluster.ingress_address(https=False)
    for host, keypair in (
        (names[0], hosts["one"]),
        (names[1], hosts["two"]),
        (f"any.wild.{namespace}.example.com", wild),
    ):
        presented = probes.handshake(https, host=host, authority_pem=authority.pem)
        assert (presented.leaf_der, presented.error) == (keypair.leaf_der, "")
    deeper = f"a.b.wild.{namespace}.example.com"  # a wildcard is one label
    assert probes.handshake(https, host=deeper, authority_pem=authority.pem).subject == FAKE
    answers = {
        path: probes.redirect(http, host=names[0], path=path).status
        for path in ("/exact", "/exact/more", "/prefix", "/prefix/more", "/prefixes", "/")
    }
    assert answers == {
        "/exact": 503,
        "/exact/more": 404,
        "/prefix": 503,
        "/prefix/more": 503,
        "/prefixes": 404,
        "/": 404,
    }
    events = [
        event["message"]
        for event in api.list(EVENTS, namespace)
        if event["involvedObject"]["name"] == "hosts" and event["type"] == "Warning"
    ]
    assert events == ["Service 'none' is not there: 503"]


def test_a_stream_in_flight_goes_on_while_endpoints_change(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    import grpc
    from grpc_health.v1 import health_pb2

    grpclb = installed(replicas=1)
    ingress = grpclb.ingress
    credentials = grpc.ssl_channel_credentials(root_certificates=ingress.authority_pem)
    options = [
        ("grpc.ssl_target_name_override", ingress.host),
        ("grpc.default_authority", ingress.host),
    ]
    with grpc.secure_channel(ingress.address, credentials, options=options) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(service=""), timeout=30)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        before = ingress.picker_rebuilds()
        grpclb.scale(3)
        wait_until(lambda: ingress.picker_rebuilds() > before)
        wait_until(lambda: len({ingress.answer().backend for _ in range(3)}) == 3)
        assert watch.is_active()
        # Also when the pod that it goes to is no endpoint any more.
        patch(api, SERVICES, namespace, {"spec": {"selector": {"app": "another"}}})
        wait_until(lambda: "503" in ingress.answer().details)
        assert watch.is_active()
        watch.cancel()


def test_pods_come_and_go_without_a_reload_and_each_change_is_counted(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    """Else the bound on an exact round robin would not hold."""
    grpclb = installed(replicas=2)
    reloads = events_of(api, namespace, "RELOAD")
    before = grpclb.ingress.picker_rebuilds()
    grpclb.scale(3)
    following(grpclb)
    assert grpclb.ingress.picker_rebuilds() > before
    grpclb.scale(0)
    wait_until(lambda: "503" in grpclb.ingress.answer().details)
    grpclb.scale(1)
    following(grpclb)
    told = events_of(api, namespace, "ENDPOINTS")
    assert told[-2:] == [
        "NGINX follows Service 'grpclb-ingress': ready endpoints: 0",
        "NGINX follows Service 'grpclb-ingress': ready endpoints: 1",
    ]
    assert events_of(api, namespace, "RELOAD") == reloads


def test_scaling_up_and_down_fails_no_call(installed: Callable[..., Grpclb]) -> None:
    grpclb = installed(replicas=3)
    with grpclb.traffic(rate=1000) as traffic:
        grpclb.scale(6)
        assert_rebalanced(traffic)
        grpclb.scale(2)
        assert_rebalanced(traffic)
        wait_until(lambda: len(grpclb._deployment.watch.pods()) == 2)  # the others have ended
        assert_no_failed_calls(traffic.stop())


def following(grpclb: Grpclb) -> None:
    """Wait until the ingress calls just the pods that are ready."""
    ready = {f"{backend.address}:{grpclb.service.port}" for backend in grpclb.backends()}
    wait_until(
        lambda: {grpclb.ingress.answer().backend for _ in range(2 * len(ready) + 1)} == ready
    )


def events_of(api: KubeApi, namespace: str, reason: str) -> list[str]:
    """Return what the events of one reason say, the oldest first, each as often as it came."""
    return [
        event["message"]
        for event in api.list(EVENTS, namespace)
        if event["reason"] == reason
        for _ in range(event["count"])
    ]


def test_keys_are_for_this_user_only(
    installed: Callable[..., Grpclb], embedded_cluster: EmbeddedCluster
) -> None:
    installed(replicas=1)
    directory: Path = embedded_cluster.kubeconfig.parent / "ingress"
    keys = list((directory / "keypairs").iterdir())
    assert keys
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((directory / "keypairs").stat().st_mode) == 0o700
    assert not any("PRIVATE KEY" in text for text in embedded_cluster.ingress_files().values())


def test_a_client_without_tls_is_refused_as_nginx_does(
    installed: Callable[..., Grpclb], embedded_cluster: EmbeddedCluster
) -> None:
    grpclb = installed(replicas=1)
    plain = probes.redirect(grpclb.ingress.address, host=grpclb.ingress.host, path="/")
    assert plain.status == 400
    with pytest.raises(ssl.SSLError):
        probes.handshake(
            grpclb.ingress.http_address,
            host=grpclb.ingress.host,
            authority_pem=grpclb.ingress.authority_pem,
        )


def test_calls_after_a_change_meet_the_pods_that_are_ready_and_no_others(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed(replicas=4)
    grpclb.scale(2)
    assert_even_spread(grpclb.drive())
    grpclb.restart()
    assert_even_spread(grpclb.drive())
