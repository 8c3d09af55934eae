"""What does not fit together is said by name, before a call is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.asserts import (
    assert_ingress_reachable,
    assert_no_failed_calls,
    assert_redirects_to_https,
    assert_tls_terminated,
)

from .ingresses import (
    FAKE,
    INGRESSES,
    PASSTHROUGH,
    PROTOCOL,
    SECRETS,
    SERVICES,
    patch,
    pod_of,
    refusal,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.handle import Grpclb


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
    # While nginx is reloaded, its old workers answer beside the new ones.
    wait_until(lambda: not any(grpclb.ingress.answer().answered for _ in range(10)))
    assert refusal(grpclb) == [
        f"annotation {PROTOCOL} is not set, which is HTTP, but pod {pod_of(grpclb)!r} speaks "
        "HTTP/2 in plaintext on targetPort 50051, so that every call fails; set it to 'GRPC'"
    ]


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
    """As `kubectl create secret generic` makes it of the files of a certificate and a key."""
    grpclb = installed(replicas=1, certificate="wrong-type")
    assert refusal(grpclb) == [
        "Secret 'grpclb-ingress-tls' cannot be used for TLS: its type is 'Opaque', not "
        "'kubernetes.io/tls', and it has no tls.crt and no tls.key (it has server.crt, "
        "server.key); make it with `kubectl create secret tls`"
    ]
    assert grpclb.ingress.handshake().subject == FAKE
    assert_redirects_to_https(grpclb.ingress)  # TLS is asked for, whatever comes of it


def test_a_secret_of_another_type_is_as_good_where_it_has_both_files(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    secret = api.get(SECRETS, namespace, "grpclb-ingress-tls")
    api.delete(SECRETS, namespace, "grpclb-ingress-tls")
    wait_until(lambda: grpclb.ingress.handshake().subject == FAKE)
    made = {**secret, "type": "Opaque", "metadata": {"name": "grpclb-ingress-tls"}}
    api.apply([made], namespace=namespace)
    # Workers that were there before it may be the ones to answer, for a moment.
    wait_until(lambda: grpclb.ingress.handshake().leaf_der == grpclb.ingress.certificate_der)
    wait_until(lambda: grpclb.ingress.answer().answered)
    assert grpclb.ingress.mismatches() == []


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
    wait_until(lambda: not any(grpclb.ingress.answer().answered for _ in range(10)))
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


def test_the_services_target_port_is_as_good_as_its_port(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    ports = [{"name": "grpc", "port": 80, "protocol": "TCP", "targetPort": 50051}]
    patch(api, SERVICES, namespace, {"spec": {"ports": ports}})
    lead_to(api, namespace, {"name": "grpclb-ingress", "port": {"number": 50051}})
    wait_until(lambda: grpclb.ingress.answer().answered)
    assert grpclb.ingress.mismatches() == []


def test_a_secret_that_a_wildcard_is_listed_for_will_do(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    grpclb = installed(replicas=1)
    for hosts in ({"hosts": [f"*.{grpclb.ingress.host.partition('.')[2]}"]}, {}):
        tls = [{**hosts, "secretName": "grpclb-ingress-tls"}]
        patch(api, INGRESSES, namespace, {"spec": {"tls": tls}})
        assert_no_failed_calls(grpclb.drive(calls=10))
        assert grpclb.ingress.handshake().leaf_der == grpclb.ingress.certificate_der


def test_tls_that_is_passed_through_to_plaintext_pods_is_named(
    installed: Callable[..., Grpclb],
) -> None:
    grpclb = installed(replicas=1, annotations={PASSTHROUGH: "true"})
    assert refusal(grpclb) == [
        f"annotation {PASSTHROUGH} is 'true', so that pods get clients' TLS as it is, but pod "
        f"{pod_of(grpclb)!r} speaks HTTP/2 in plaintext on targetPort 50051; serve TLS there, or "
        "remove the annotation"
    ]


def test_a_controller_that_does_not_pass_tls_through_is_named(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    """Pods labelled as ingress-nginx's are tell what the controller was started with."""
    grpclb = installed(replicas=1, tls="end-to-end", annotations={PASSTHROUGH: "true"})
    assert grpclb.ingress.mismatches() == []
    labels = {
        "app.kubernetes.io/name": "ingress-nginx",
        "app.kubernetes.io/component": "controller",
    }
    container = {"name": "controller", "image": "none:1", "args": ["/nginx-ingress-controller"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "controller", "labels": labels},
        "spec": {"containers": [container]},
    }
    api.apply([pod], namespace=namespace)
    assert refusal(grpclb) == [
        f"annotation {PASSTHROUGH} is 'true', and the controller runs without "
        "--enable-ssl-passthrough, so that it ends TLS itself; start it with that flag"
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
        "controller takes the Ingress up; set it (--grpclb-ingress-class) to one of the "
        "IngressClasses of k8s.io/ingress-nginx: nginx"
    ]


def lead_to(api: KubeApi, namespace: str, service: dict[str, Any]) -> None:
    ingress = api.get(INGRESSES, namespace, "grpclb-ingress")
    [rule] = ingress["spec"]["rules"]
    rule["http"]["paths"][0]["backend"] = {"service": service}
    patch(api, INGRESSES, namespace, {"spec": {"rules": [rule]}})
