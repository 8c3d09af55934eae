"""Calls from outside through an Ingress of the embedded cluster, by a real nginx; and what is said
of each way in which that goes wrong."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import ssl
import stat
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from pytest_grpclb.asserts import (
    assert_even_spread,
    assert_ingress_reachable,
    assert_no_failed_calls,
    assert_pinned,
    assert_rebalanced,
    assert_redirects_to_https,
    assert_tls_terminated,
)
from pytest_grpclb.certificates import Authority, Keypair, tls_secret
from pytest_grpclb.clusters.kube import EVENTS, KubeApi, Resource
from pytest_grpclb.errors import ClusterUnavailableError, PreflightError
from pytest_grpclb.ingress import probes
from pytest_grpclb.installation import install
from pytest_grpclb.outside import OutsideDriver
from pytest_grpclb.samples import SAMPLE_CALL, sample_source
from pytest_grpclb.settings import IngressSettings, Settings
from pytest_grpclb.strategies.ingress_nginx import IngressNginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
    from pytest_grpclb.handle import Grpclb

INGRESSES = Resource("networking.k8s.io/v1", "ingresses", namespaced=True)
SERVICES = Resource("v1", "services", namespaced=True)
SECRETS = Resource("v1", "secrets", namespaced=True)

PROTOCOL = "nginx.ingress.kubernetes.io/backend-protocol"
FAKE = "CN=Kubernetes Ingress Controller Fake Certificate,O=Acme Co"


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideDriver]:
    driver = OutsideDriver(tmp_path_factory.mktemp("outside") / "driver.log")
    yield driver
    driver.close()


@pytest.fixture
def installed(
    embedded_cluster: EmbeddedCluster, api: KubeApi, namespace: str, outside: OutsideDriver
) -> Iterator[Callable[..., Grpclb]]:
    """Puts the greeter behind an Ingress; IngressSettings as keywords."""
    with ExitStack() as stack:

        def make(*, replicas: int = 2, **settings: Any) -> Grpclb:
            wanted = Settings(
                replicas=replicas,
                max_connection_age_s=None,
                ingress=IngressSettings(**settings),
            )
            source = sample_source(
                wanted, image=embedded_cluster.programs_image, through_ingress=True
            )
            # Pods need not outlive the test by 5 s, only the second in which nginx learns of it.
            source = replace(source, values={**source.values, "preStopSleepSeconds": 2})
            return install(
                stack,
                cluster=embedded_cluster,
                api=api,
                strategy=IngressNginx(),
                settings=wanted,
                backends=source.backends(api, wanted, namespace=namespace),
                namespace=namespace,
                call=SAMPLE_CALL,
                outside=outside,
                run="test",
            )

        yield make


def refusal(grpclb: Grpclb) -> list[str]:
    """Return the mismatches that keep the first call from being sent."""
    with pytest.raises(PreflightError) as caught:
        grpclb.drive(calls=10)
    assert str(caught.value).startswith(
        f"Ingress 'grpclb-ingress' does not lead {grpclb.ingress.host!r} to the backends:\n- "
    )
    assert caught.value.host == grpclb.ingress.host
    return list(caught.value.mismatches)


def pod_of(grpclb: Grpclb) -> str:
    [name] = [backend.name for backend in grpclb.backends()]
    return name


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


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
        grpclb.drive(calls=200), mechanism=grpclb.strategy.mechanism, pickers=None
    )
    assert_pinned(traffic)
    presented = grpclb.ingress.handshake()
    assert presented.leaf_der != grpclb.ingress.certificate_der  # the pod's own
    assert grpclb.ingress.answer().transport == "tls"


# --- what does not fit is said by name, before a call is sent


def test_a_pod_that_speaks_plaintext_needs_grpc(installed: Callable[..., Grpclb]) -> None:
    grpclb = installed(replicas=1, annotations={PROTOCOL: "GRPCS"})
    assert refusal(grpclb) == [
        f"annotation {PROTOCOL} is 'GRPCS', but pod {pod_of(grpclb)!r} speaks HTTP/2 in plaintext "
        "on targetPort 50051, so that every call fails; set it to 'GRPC'"
    ]


def test_a_pod_that_speaks_tls_needs_grpcs(installed: Callable[..., Grpclb]) -> None:
    grpclb = installed(replicas=1, tls="end-to-end", annotations={PROTOCOL: "GRPC"})
    assert refusal(grpclb) == [
        f"annotation {PROTOCOL} is 'GRPC', but pod {pod_of(grpclb)!r} speaks TLS on targetPort "
        "50051, so that every call fails; set it to 'GRPCS'"
    ]


def test_without_a_backend_protocol_it_is_http(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    annotations = {"metadata": {"annotations": {PROTOCOL: None}}}
    patch(api, INGRESSES, namespace, annotations)
    assert refusal(grpclb) == [
        f"annotation {PROTOCOL} is not set, which is HTTP, but pod {pod_of(grpclb)!r} speaks "
        "HTTP/2 in plaintext on targetPort 50051, so that every call fails; set it to 'GRPC'"
    ]
    wait_until(lambda: grpclb.ingress.answer().status != "OK")


def test_a_missing_secret_is_named(installed: Callable[..., Grpclb], namespace: str) -> None:
    grpclb = installed(replicas=1, certificate="missing")
    sentence = (
        f"there is no Secret 'grpclb-ingress-tls' in namespace {namespace!r}: "
        "spec.tls.secretName must name one in the Ingress's own namespace"
    )
    assert refusal(grpclb) == [sentence]
    with pytest.raises(AssertionError) as caught:
        assert_ingress_reachable(grpclb.ingress)
    assert str(caught.value) == (
        f"ingress 'grpclb-ingress', host {grpclb.ingress.host!r} at {grpclb.ingress.address}: its "
        f"certificate is refused: self-signed certificate; it presented {FAKE!r}\n- {sentence}"
    )
    with pytest.raises(AssertionError) as caught:
        assert_tls_terminated(grpclb.ingress)
    assert str(caught.value) == (
        f"ingress 'grpclb-ingress', host {grpclb.ingress.host!r} at {grpclb.ingress.address}: it "
        f"presented {FAKE!r}, not the certificate of its Secret\n- {sentence}"
    )


def test_a_secret_of_another_type_is_named(installed: Callable[..., Grpclb]) -> None:
    grpclb = installed(replicas=1, certificate="wrong-type")
    assert refusal(grpclb) == [
        "Secret 'grpclb-ingress-tls' cannot be used for TLS: its type is 'Opaque', not "
        "'kubernetes.io/tls'; make it with `kubectl create secret tls`"
    ]
    assert grpclb.ingress.handshake().subject == FAKE


def test_a_secret_in_another_namespace_is_found_there(
    installed: Callable[..., Grpclb], namespace: str
) -> None:
    grpclb = installed(replicas=1, certificate="other-namespace")
    assert refusal(grpclb) == [
        f"there is no Secret 'grpclb-ingress-tls' in namespace {namespace!r}; there is one in "
        f"'{namespace}-other', but spec.tls.secretName must name one in the Ingress's own namespace"
    ]
    assert grpclb.ingress.handshake().subject == FAKE


def test_an_expired_certificate_is_presented_and_refused(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed(replicas=1, certificate="expired")
    [sentence] = refusal(grpclb)
    assert re.fullmatch(
        r"the certificate in Secret 'grpclb-ingress-tls' expired at "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, so clients refuse it; issue a new one",
        sentence,
    )
    presented = grpclb.ingress.handshake()
    assert presented.leaf_der == grpclb.ingress.certificate_der
    assert presented.error == "certificate has expired"


def test_a_certificate_for_another_host_is_not_presented(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed(replicas=1, certificate="wrong-host")
    assert refusal(grpclb) == [
        "the certificate in Secret 'grpclb-ingress-tls' is for wrong.example.org, not for "
        f"{grpclb.ingress.host!r}, so clients get the controller's fake certificate; issue it for "
        "that host"
    ]
    assert grpclb.ingress.handshake().subject == FAKE


def test_a_port_that_no_container_listens_on_is_named(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    ports = [{"name": "grpc", "port": 50051, "protocol": "TCP", "targetPort": 50099}]
    patch(api, SERVICES, namespace, {"spec": {"ports": ports}})
    sentence = (
        "Service 'grpclb-ingress' has targetPort 50099, where nothing listens in pod "
        f"{pod_of(grpclb)!r} (container ports: grpc:50051), which is answered with 502; change "
        "targetPort"
    )
    wait_until(lambda: grpclb.ingress.mismatches() == [sentence])
    assert refusal(grpclb) == [sentence]


def test_a_named_target_port_that_no_container_has_is_named(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    ports = [{"name": "grpc", "port": 50051, "protocol": "TCP", "targetPort": "rpc"}]
    patch(api, SERVICES, namespace, {"spec": {"ports": ports}})
    sentence = (
        "Service 'grpclb-ingress' has targetPort 'rpc', and no container port has that name "
        "(there are: grpc:50051); change targetPort"
    )
    wait_until(lambda: grpclb.ingress.mismatches() == [sentence])


def test_a_port_that_the_service_has_not_is_named(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    lead_to(api, namespace, {"name": "grpclb-ingress", "port": {"number": 80}})
    assert refusal(grpclb) == [
        "backend.service.port is 80, and Service 'grpclb-ingress' has only grpc:50051; name one of "
        "these"
    ]


def test_a_service_that_is_not_there_is_named(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    lead_to(api, namespace, {"name": "greter", "port": {"number": 50051}})
    assert refusal(grpclb) == [
        "backend.service.name is 'greter', and there is no such Service; name one that is"
    ]


def test_without_a_ready_endpoint_it_is_503_and_said_so(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed(replicas=1)
    selector = grpclb.service.selector
    grpclb.scale(0)
    wait_until(lambda: grpclb.ingress.mismatches() != [])
    [sentence] = refusal(grpclb)
    assert re.fullmatch(
        r"Service 'grpclb-ingress' has no ready endpoint, which is answered with 503: its selector "
        + re.escape(str(dict(sorted(selector.items()))))
        + r" fits [01] pods, none of them ready; see why, or scale up",
        sentence,
    )
    wait_until(lambda: "503" in grpclb.ingress.answer().details)


def test_an_unknown_class_is_named(installed: Callable[..., Grpclb]) -> None:
    grpclb = installed(replicas=1, class_name="nginxx")
    assert refusal(grpclb) == [
        "spec.ingressClassName is 'nginxx', which is no IngressClass of the cluster, so no "
        "controller takes the Ingress up; set it to one of the IngressClasses of "
        "k8s.io/ingress-nginx: nginx"
    ]


def test_without_nginx_the_way_to_it_is_said(
    installed: Callable[..., Grpclb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_grpclb.clusters.embedded.ingress.binary.find_nginx", lambda: None)
    with pytest.raises(ClusterUnavailableError) as caught:
        installed(replicas=1)
    assert str(caught.value) == (
        "cluster provider 'embedded' cannot be used here: an ingress needs nginx, which is not "
        "here; install it with: pip install 'pytest-grpclb[ingress]'"
    )


def test_what_nginx_does_not_take_is_shown_in_its_own_words_and_others_go_on(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    """A key of 1024 bits is below OpenSSL's security level; nginx refuses the whole file."""
    grpclb = installed(replicas=1)
    name = f"weak.{namespace}.example.com"
    api.apply(
        [
            tls_secret("weak", weak_keypair(name)),
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {"name": "weak"},
                "spec": {
                    "ingressClassName": "nginx",
                    "tls": [{"hosts": [name], "secretName": "weak"}],
                    "rules": [{"host": name}],
                },
            },
        ],
        namespace=namespace,
    )
    wait_until(lambda: "NginxFailed" in grpclb.ingress.describe())
    failed = [
        event["message"]
        for event in api.list(EVENTS, namespace)
        if event["reason"] == "NginxFailed" and event["involvedObject"]["name"] == "weak"
    ]
    assert re.fullmatch(
        r"nginx does not take its configuration \(exit code 1\):\n"
        r".*SSL_CTX_use_certificate\(\".*/keypairs/.*-weak\.pem\"\) failed .*ee key too small\)\n"
        r"nginx: configuration file .*/nginx\.conf\.new test failed",
        failed[0],
    )
    assert_no_failed_calls(grpclb.drive(calls=10))


def weak_keypair(host: str) -> Keypair:
    """Return a certificate and key such as no authority issues any more."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Keypair(
        chain_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def patch(api: KubeApi, where: Resource, namespace: str, body: dict[str, Any]) -> None:
    api.request(
        "PATCH",
        where.path(namespace, "grpclb-ingress"),
        body=body,
        content_type="application/merge-patch+json",
    )


def lead_to(api: KubeApi, namespace: str, service: dict[str, Any]) -> None:
    ingress = api.get(INGRESSES, namespace, "grpclb-ingress")
    [rule] = ingress["spec"]["rules"]
    rule["http"]["paths"][0]["backend"] = {"service": service}
    patch(api, INGRESSES, namespace, {"spec": {"rules": [rule]}})


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
