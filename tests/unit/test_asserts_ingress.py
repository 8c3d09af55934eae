"""What is said of an ingress: every message in full, over answers that are made up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from pytest_grpclb.asserts import (
    assert_ingress_reachable,
    assert_redirects_to_https,
    assert_tls_terminated,
)
from pytest_grpclb.errors import InconclusiveError
from pytest_grpclb.model import CallTemplate, Handshake, IngressAnswer, Redirect

WHO = "ingress 'web', host 'a.example.com' at 127.9.0.3:443: "
GOOD = Handshake(leaf_der=b"leaf", subject="CN=a", alpn="h2")
OK = IngressAnswer(
    status="OK",
    backend="uid-1",
    transport="plaintext",
    services=("helloworld.Greeter", "grpc.health.v1.Health"),
)


@dataclass(frozen=True, kw_only=True)
class Made:
    """An ingress that answers as it is told."""

    name: str = "web"
    address: str = "127.9.0.3:443"
    http_address: str = "127.9.0.3:80"
    host: str = "a.example.com"
    certificate_der: bytes = b"leaf"
    backend_protocol: str = "GRPC"
    call: CallTemplate = CallTemplate(method="/helloworld.Greeter/SayHello")  # noqa: RUF009
    presented: Handshake | OSError = GOOD
    answered: IngressAnswer = OK
    redirected: Redirect | OSError = Redirect(  # noqa: RUF009
        status=308, location="https://a.example.com/helloworld.Greeter/SayHello"
    )
    wrong: tuple[str, ...] = ()

    def handshake(self) -> Handshake:
        if isinstance(self.presented, OSError):
            raise self.presented
        return self.presented

    def answer(self) -> IngressAnswer:
        return self.answered

    def redirect(self) -> Redirect:
        if isinstance(self.redirected, OSError):
            raise self.redirected
        return self.redirected

    def mismatches(self) -> tuple[str, ...]:
        return self.wrong


def test_what_is_as_it_should_be_passes() -> None:
    assert_ingress_reachable(Made())
    assert_tls_terminated(Made())
    assert_redirects_to_https(Made())


def test_end_to_end_the_pods_must_be_reached_by_tls() -> None:
    made = Made(backend_protocol="GRPCS", answered=replace(OK, transport="tls"))
    assert_tls_terminated(made)
    with pytest.raises(AssertionError) as caught:
        assert_tls_terminated(Made(backend_protocol="GRPCS"))
    assert str(caught.value) == (
        f"{WHO}pod 'uid-1' was reached by 'plaintext', not 'tls' (backend-protocol GRPCS)"
    )


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            Made(presented=ConnectionRefusedError(111, "Connection refused")),
            "127.9.0.3:443 does not answer: [Errno 111] Connection refused",
        ),
        (
            Made(presented=replace(GOOD, error="certificate has expired")),
            "its certificate is refused: certificate has expired; it presented 'CN=a'",
        ),
        (
            Made(presented=replace(GOOD, alpn="http/1.1")),
            "ALPN came to 'http/1.1'; gRPC needs 'h2' (HTTP/2)",
        ),
        (
            Made(answered=IngressAnswer(status="UNAVAILABLE", details="503"), wrong=("a", "b")),
            "the call /helloworld.Greeter/SayHello ended with UNAVAILABLE: 503\n- a\n- b",
        ),
        (
            Made(answered=replace(OK, services=())),
            "reflection lists nothing, not 'helloworld.Greeter'; register it with the server's "
            "reflection, or pass reflection=False",
        ),
    ],
)
def test_what_keeps_clients_out_is_said(made: Made, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_ingress_reachable(made)
    assert str(caught.value) == WHO + message


def test_reflection_need_not_be_there() -> None:
    assert_ingress_reachable(Made(answered=replace(OK, services=())), reflection=False)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            Made(presented=replace(GOOD, leaf_der=b"other")),
            "it presented 'CN=a', not the certificate of its Secret",
        ),
        (
            Made(presented=replace(GOOD, error="certificate has expired")),
            "the certificate of its Secret is refused: certificate has expired",
        ),
        (
            Made(answered=IngressAnswer(status="UNKNOWN", details="x")),
            "the call /helloworld.Greeter/SayHello ended with UNKNOWN: x",
        ),
    ],
)
def test_what_is_no_termination_is_said(made: Made, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_tls_terminated(made)
    assert str(caught.value) == WHO + message


def test_a_pod_that_does_not_tell_decides_nothing() -> None:
    with pytest.raises(InconclusiveError) as caught:
        assert_tls_terminated(Made(answered=replace(OK, transport="")))
    assert str(caught.value) == (
        "INCONCLUSIVE: ingress 'web': the pod that answered did not say how it was reached; let "
        "the service send the response metadata grpclb-transport, 'tls' or 'plaintext'"
    )


@pytest.mark.parametrize(
    ("redirected", "what"),
    [
        (Redirect(status=200), "200"),
        (Redirect(status=302, location="https://b/"), "302 to 'https://b/'"),
    ],
)
def test_plaintext_that_is_not_redirected_is_said(redirected: Redirect, what: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_redirects_to_https(Made(redirected=redirected))
    assert str(caught.value) == (
        f"{WHO}plaintext at 127.9.0.3:80 was answered with {what}, not 308 to "
        "'https://a.example.com/helloworld.Greeter/SayHello'; a certificate for the host and the "
        'annotation ssl-redirect (default "true") make it so'
    )
