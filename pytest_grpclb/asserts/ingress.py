"""Assertions on the way in from outside: by host name, over TLS, through an Ingress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_grpclb.errors import InconclusiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_grpclb.model import CallTemplate, Handshake, IngressAnswer, Redirect

__all__ = [
    "IngressEntrance",
    "assert_ingress_reachable",
    "assert_redirects_to_https",
    "assert_tls_terminated",
]

_PERMANENT_REDIRECT = 308
"""What ingress-nginx answers with: the method and the body stay (RFC 9110, section 15.4.9)."""
_Answer = TypeVar("_Answer")
_TRANSPORTS = {"GRPC": "plaintext", "GRPCS": "tls"}


class IngressEntrance(Protocol):
    """An ingress that can be asked; each question is asked anew."""

    @property
    def name(self) -> str:
        """The Ingress's name."""

    @property
    def address(self) -> str:
        """Where https is reached."""

    @property
    def http_address(self) -> str:
        """Where http is reached."""

    @property
    def host(self) -> str:
        """What clients call: SNI and authority."""

    @property
    def certificate_der(self) -> bytes:
        """The certificate that its Secret holds."""

    @property
    def backend_protocol(self) -> str:
        """GRPC: the pods are to be reached in plaintext; GRPCS: by TLS."""

    @property
    def call(self) -> CallTemplate:
        """The call that `answer` sends."""

    def handshake(self) -> Handshake:
        """Make a TLS connection."""

    def answer(self) -> IngressAnswer:
        """Send one call, and ask reflection for the services."""

    def redirect(self) -> Redirect:
        """Ask in plaintext."""

    def mismatches(self) -> Sequence[str]:
        """Say why it cannot lead calls to the backends; nothing if it can."""


def assert_ingress_reachable(ingress: IngressEntrance, *, reflection: bool = True) -> None:
    """Check that a client outside the cluster is answered: TLS by SNI, HTTP/2 by ALPN, a call.

    :param ingress: ``grpclb.ingress``
    :param reflection: whether the server's reflection must list the service as well
    :raises AssertionError: if one of these fails; with what does not fit behind the ingress
    """
    __tracebackhide__ = True
    handshake = _handshake(ingress)
    if handshake.error:
        raise _failure(
            ingress,
            f"its certificate is refused: {handshake.error}; it presented {handshake.subject!r}",
        )
    if handshake.alpn != "h2":
        raise _failure(
            ingress, f"ALPN came to {handshake.alpn or 'nothing'!r}; gRPC needs 'h2' (HTTP/2)"
        )
    answer = ingress.answer()
    if not answer.answered:
        raise _failure(
            ingress, f"the call {ingress.call.method} ended with {answer.status}: {answer.details}"
        )
    service = ingress.call.method.split("/")[1]
    if reflection and service not in answer.services:
        listed = ", ".join(answer.services) or "nothing"
        raise _failure(
            ingress,
            f"reflection lists {listed}, not {service!r}; register it with the server's "
            "reflection, or pass reflection=False",
        )


def assert_tls_terminated(ingress: IngressEntrance) -> None:
    """Check that TLS ends at the ingress, with the certificate of its Secret.

    What the pods are reached by is what they report in the response metadata ``grpclb-transport``:
    plaintext, or TLS of their own where it goes end to end.

    :param ingress: ``grpclb.ingress``
    :raises AssertionError: if another certificate is presented, a client refuses it, or the pods
        are reached by something else
    :raises InconclusiveError: if the pods do not report what they are reached by
    """
    __tracebackhide__ = True
    handshake = _handshake(ingress)
    if handshake.leaf_der != ingress.certificate_der:
        raise _failure(
            ingress, f"it presented {handshake.subject!r}, not the certificate of its Secret"
        )
    if handshake.error:
        raise _failure(ingress, f"the certificate of its Secret is refused: {handshake.error}")
    answer = ingress.answer()
    if not answer.answered:
        raise _failure(
            ingress, f"the call {ingress.call.method} ended with {answer.status}: {answer.details}"
        )
    if not answer.transport:
        raise InconclusiveError(
            f"ingress {ingress.name!r}: the pod that answered did not say how it was reached",
            seen=0,
            needed=1,
            advice="let the service send the response metadata grpclb-transport, 'tls' or "
            "'plaintext'",
        )
    wanted = _TRANSPORTS[ingress.backend_protocol]
    if answer.transport != wanted:
        raise _failure(
            ingress,
            f"pod {answer.backend!r} was reached by {answer.transport!r}, not {wanted!r} "
            f"(backend-protocol {ingress.backend_protocol})",
        )


def assert_redirects_to_https(ingress: IngressEntrance) -> None:
    """Check that plaintext is sent to https, for good and with the method kept (308).

    :param ingress: ``grpclb.ingress``
    :raises AssertionError: if it is not
    """
    __tracebackhide__ = True
    redirect = _reached(ingress, ingress.redirect, ingress.http_address)
    wanted = f"https://{ingress.host}{ingress.call.method}"
    if redirect.status != _PERMANENT_REDIRECT or redirect.location != wanted:
        to = f" to {redirect.location!r}" if redirect.location else ""
        raise _failure(
            ingress,
            f"plaintext at {ingress.http_address} was answered with {redirect.status}{to}, not "
            f"{_PERMANENT_REDIRECT} to {wanted!r}; a certificate for the host and the annotation "
            'ssl-redirect (default "true") make it so',
        )


def _handshake(ingress: IngressEntrance) -> Handshake:
    __tracebackhide__ = True
    return _reached(ingress, ingress.handshake, ingress.address)


def _reached(ingress: IngressEntrance, ask: Callable[[], _Answer], address: str) -> _Answer:
    __tracebackhide__ = True
    try:
        return ask()
    except OSError as error:
        raise _failure(ingress, f"{address} does not answer: {error}") from error


def _failure(ingress: IngressEntrance, why: str) -> AssertionError:
    lines = [f"ingress {ingress.name!r}, host {ingress.host!r} at {ingress.address}: {why}"]
    lines += [f"- {each}" for each in ingress.mismatches()]
    return AssertionError("\n".join(lines))
