"""Certificates for a test, by an authority that ends with it, and reading those there are.

Issuing is trustme's; nothing here is meant to keep anybody out.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "TLS_TYPE",
    "Authority",
    "Keypair",
    "KeypairError",
    "covers",
    "generic_secret",
    "keypair_of",
    "secret_for",
    "tls_secret",
]

TLS_TYPE = "kubernetes.io/tls"
_A_DAY = dt.timedelta(days=1)


class KeypairError(ValueError):
    """A secret holds no certificate and key that could be used; says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keypair:
    """A certificate chain with the key of its leaf, the first in it."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)

    @property
    def pem(self) -> bytes:
        """Return the chain, then the key, as servers take both from one file."""
        return self.chain_pem + b"\n" + self.key_pem

    @property
    def leaf_der(self) -> bytes:
        """Return the leaf as it is sent in a handshake."""
        return self._leaf().public_bytes(serialization.Encoding.DER)

    @property
    def names(self) -> tuple[str, ...]:
        """Return what the leaf may be presented for (subject alternative names)."""
        try:
            extension = self._leaf().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return ()
        return tuple(extension.value.get_values_for_type(x509.DNSName))

    @property
    def expires(self) -> dt.datetime:
        """Return the end of the leaf's validity."""
        leaf = self._leaf()
        # The first came with cryptography 42, and the second has warned ever since.
        expires: dt.datetime | None = getattr(leaf, "not_valid_after_utc", None)
        return expires or leaf.not_valid_after.replace(tzinfo=dt.UTC)

    def _leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.chain_pem)


class Authority:
    """A certificate authority for one test; its key never leaves this process."""

    def __init__(self) -> None:
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.pem: bytes = self._authority.cert_pem.bytes()

    def issue(self, *names: str, expired: bool = False) -> Keypair:
        """Issue a certificate for host names, of which the first label may be ``*``.

        :param expired: whether its validity ended yesterday
        """
        ended = dt.datetime.now(dt.UTC) - _A_DAY if expired else None
        leaf = self._authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA, not_after=ended)
        return Keypair(
            chain_pem=b"".join(each.bytes() for each in leaf.cert_chain_pems),
            key_pem=leaf.private_key_pem.bytes(),
        )


def tls_secret(name: str, keypair: Keypair) -> dict[str, Any]:
    """Return the Secret that holds a certificate and its key."""
    return _secret(name, TLS_TYPE, {"tls.crt": keypair.chain_pem, "tls.key": keypair.key_pem})


def generic_secret(name: str, keypair: Keypair) -> dict[str, Any]:
    """Return a Secret that no ingress controller finds a certificate in, though there is one.

    It is what ``kubectl create secret generic`` makes of the files server.crt and server.key.
    """
    return _secret(name, "Opaque", {"server.crt": keypair.chain_pem, "server.key": keypair.key_pem})


def _secret(name: str, kind: str, data: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": kind,
        "data": {key: base64.b64encode(content).decode() for key, content in data.items()},
    }


def keypair_of(secret: Mapping[str, Any]) -> Keypair:
    """Return what a Secret holds.

    Its type is not looked at: one of another type will do if it has what one for TLS has.

    :raises KeypairError: if its contents are no pair
    :source: Kubernetes documentation, "Secrets", TLS Secrets; ingress-nginx v1.15.1,
        internal/ingress/controller/store/backend_ssl.go, getPemCertificate
    """
    data = secret.get("data") or {}
    missing = [key for key in ("tls.crt", "tls.key") if not data.get(key)]
    if missing:
        kind = secret.get("type") or "Opaque"
        other = "" if kind == TLS_TYPE else f"its type is {kind!r}, not {TLS_TYPE!r}, and "
        raise KeypairError(
            f"{other}it has no {' and no '.join(missing)} "
            f"(it has {', '.join(sorted(data)) or 'nothing'})"
        )
    try:
        chain_pem = base64.b64decode(data["tls.crt"], validate=True)
        key_pem = base64.b64decode(data["tls.key"], validate=True)
        leaf = x509.load_pem_x509_certificate(chain_pem)
        key: Any = serialization.load_pem_private_key(key_pem, password=None)
    except (binascii.Error, ValueError, TypeError) as error:
        raise KeypairError("its tls.crt and tls.key are not PEM that can be read") from error
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*spki) != key.public_key().public_bytes(*spki):
        raise KeypairError("its tls.key is not the key of its tls.crt")
    return Keypair(chain_pem=chain_pem, key_pem=key_pem)


def covers(keypair: Keypair, host: str) -> bool:
    """Tell whether a certificate may be presented for *host*, which may be a wildcard itself.

    :source: RFC 6125, section 6.4.3; Go, crypto/x509, Certificate.VerifyHostname
    """
    host = host.lower()
    wildcard = f"*.{host.partition('.')[2]}"
    return any(name.lower() in {host, wildcard} for name in keypair.names)


def secret_for(
    entries: Iterable[Mapping[str, Any]], host: str, keypair: Callable[[str], Keypair | None]
) -> str | None:
    """Return the Secret that an Ingress has for a host; empty if it names none for it.

    That of the first entry of ``spec.tls`` that lists the host as its rule has it; else the first
    whose certificate covers it. None: there is none such.

    :param host: of a rule, so that it may be a wildcard
    :param keypair: what the Secret of a name holds; None if nothing that could be used
    :source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go, extractTLSSecretName
    """
    entries = list(entries)
    for entry in entries:
        if host in (entry.get("hosts") or ()):
            return entry.get("secretName") or ""
    for entry in entries:
        secret = entry.get("secretName") or ""
        found = keypair(secret) if secret else None
        if found is not None and covers(found, host):
            return secret
    return None
