"""Single questions to a port, asked from this process: TLS, HTTP/2, a redirect."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl

from cryptography import x509

from pytest_grpclb.ingress.chain import Spoken
from pytest_grpclb.model import Handshake, Redirect

__all__ = ["handshake", "redirect", "spoken_at"]

_TIMEOUT_S = 5.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_EMPTY_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS = 4
"""Frame type; what every HTTP/2 server sends first. (RFC 9113, section 3.4)"""


def handshake(address: str, *, host: str, authority_pem: bytes) -> Handshake:
    """Make a TLS connection as a client of *host* does, and tell what came of it.

    :param address: "host:port" to connect to
    :raises OSError: if there is no connection, or no TLS on it
    """
    trusting = ssl.create_default_context(cadata=authority_pem.decode())
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    error = ""
    try:
        with _connect(address) as plain, trusting.wrap_socket(plain, server_hostname=host) as made:
            return _told(made, error)
    except ssl.SSLCertVerificationError as refused:
        error = refused.verify_message
    # Once more without a look at the certificate, to see which one it is.
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    anybody.set_alpn_protocols(["h2", "http/1.1"])
    with _connect(address) as plain, anybody.wrap_socket(plain, server_hostname=host) as made:
        return _told(made, error)


def redirect(address: str, *, host: str, path: str) -> Redirect:
    """Ask for *path* in plaintext, and tell the answer's status and where it leads.

    :raises OSError: if there is no connection, or no HTTP on it
    """
    connection = http.client.HTTPConnection(*_split(address), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return Redirect(status=response.status, location=response.getheader("Location") or "")
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP at {address}: {error!r}") from error
    finally:
        connection.close()


def spoken_at(address: str) -> Spoken:
    """Find out what a port speaks; gRPC servers speak first, and all of them HTTP/2.

    A port-forward takes every connection, and closes it without a word where it cannot be carried.
    """
    frame = b""
    try:
        with _connect(address) as plain:
            with contextlib.suppress(ConnectionError, TimeoutError):
                plain.sendall(_PREFACE + _EMPTY_SETTINGS)
                frame = plain.recv(9, socket.MSG_WAITALL)
            if len(frame) == 9 and frame[3] == _SETTINGS:
                return Spoken.PLAINTEXT
    except ConnectionRefusedError:
        return Spoken.NOTHING
    except OSError:
        return Spoken.SILENCE
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    anybody.set_alpn_protocols(["h2"])
    try:
        with _connect(address) as plain, anybody.wrap_socket(plain):
            return Spoken.TLS
    except OSError:
        return Spoken.UNKNOWN if frame else Spoken.SILENCE


def _told(made: ssl.SSLSocket, error: str) -> Handshake:
    leaf_der = made.getpeercert(binary_form=True) or b""
    leaf = x509.load_der_x509_certificate(leaf_der)
    return Handshake(
        leaf_der=leaf_der,
        subject=leaf.subject.rfc4514_string(),
        alpn=made.selected_alpn_protocol() or "",
        error=error,
    )


def _connect(address: str) -> socket.socket:
    return socket.create_connection(_split(address), timeout=_TIMEOUT_S)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
