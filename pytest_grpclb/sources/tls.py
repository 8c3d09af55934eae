"""What clients need of a service that speaks TLS itself."""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_grpclb.model import Manifest, Service, Target
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.sources.choice import TlsFiles

__all__ = ["Tls", "read_tls"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_AUTHORITY = "grpc.default_authority"
_NAME_OVERRIDE = "grpc.ssl_target_name_override"
_SOURCE = "--grpclb-tls-ca"
_PLAINTEXT = {
    # gRPC's policy makes its channel to the balancers with the credentials of the client's own.
    "lookaside": "clients speak to the balancers of lookaside as they do to the pods, and those "
    "speak plaintext",
}
"""What no client with credentials gets through, by strategy."""
_INGRESS = "ingress-nginx"
_SIDECAR = "envoy-sidecar"
_VARIABLE_BYTES = 130_000
"""A little less than what Linux lets a variable have, 128 KiB with its name (execve(2))."""

_MISMATCHES = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"})
"""OpenSSL's reasons (x509err.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The contents of the user's files."""

    authority_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(default=b"", repr=False)
    key_pem: bytes = field(default=b"", repr=False)
    name: str = ""

    def secured(self, target: Target, strategy: str, settings: Settings) -> Target:
        """Return *target* with the credentials, where it is the client that meets the pods' TLS.

        Where a proxy does, the client speaks to that as it always does.

        :raises ServiceError: if what stands between them would have to speak it, and cannot
        """
        if strategy in _PLAINTEXT:
            raise ServiceError(
                _SOURCE,
                message=_PLAINTEXT[strategy],
                advice=f"mark such tests @pytest.mark.grpclb_skip({strategy!r}), or test the "
                "service in plaintext",
            )
        if target.through_ingress:
            self._check_ingress(settings)
            return target  # the client speaks TLS with the ingress, whose authority is the run's
        if strategy == _SIDECAR:
            return target
        arguments = target.arguments
        if self.name:
            arguments = tuple(each for each in arguments if each[0] != _AUTHORITY)
            arguments += ((_AUTHORITY, self.name), (_NAME_OVERRIDE, self.name))
        return replace(
            target,
            arguments=arguments,
            authority_pem=self.authority_pem,
            certificate_pem=self.certificate_pem,
            key_pem=self.key_pem,
        )

    def proxied(
        self, values: Mapping[str, Any], *, release: str, service: Service
    ) -> tuple[dict[str, Any], list[Manifest]]:
        """Return a chart's values, and what it needs beside it where a sidecar speaks to the pods.

        :param values: as the strategy has them
        :raises ServiceError: if a file is too large to be told to the sidecar
        """
        envoy = values.get("envoy")
        if envoy is None:
            return dict(values), []
        secret = f"{release}-envoy-tls"
        name = self.name or service.host(f"{release}-envoy")
        tls = {"secretName": secret, "name": name, "mutual": bool(self.certificate_pem)}
        contents = {"ca.crt": self.authority_pem}
        if self.certificate_pem:
            contents |= {"tls.crt": self.certificate_pem, "tls.key": self.key_pem}
        if max(map(len, contents.values())) > _VARIABLE_BYTES:
            raise ServiceError(
                _SOURCE,
                message=f"the sidecar is told each file in a variable, which has room for "
                f"{_VARIABLE_BYTES} bytes; {_told_sizes(contents)}",
                advice="give a file with the certificates alone that vouch for the service",
            )
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret},
            "data": {key: b64encode(each).decode() for key, each in contents.items()},
        }
        return {**values, "envoy": {**envoy, "tls": tls}}, [manifest]

    def _check_ingress(self, settings: Settings) -> None:
        if settings.ingress.tls != "end-to-end":
            raise ServiceError(
                _SOURCE,
                message="the ingress speaks plaintext to the pods",
                advice='mark such tests @pytest.mark.grpclb(ingress=IngressSettings(tls="'
                'end-to-end"))',
            )
        if self.certificate_pem:
            raise ServiceError(
                "--grpclb-tls-cert",
                message="ingress-nginx presents no certificate to gRPC backends",
                advice=f"mark such tests @pytest.mark.grpclb_skip({_INGRESS!r})",
            )


def _told_sizes(contents: Mapping[str, bytes]) -> str:
    return ", ".join(f"{name} has {len(content)}" for name, content in contents.items())


def read_tls(files: TlsFiles) -> Tls:
    """Read the files.

    :raises ServiceError: if one cannot be read, is not what it is named as, or a key is another's
    """
    read = Tls(
        authority_pem=_pem("--grpclb-tls-ca", files.authority, "certificate"),
        certificate_pem=_pem("--grpclb-tls-cert", files.certificate, "certificate"),
        key_pem=_pem("--grpclb-tls-key", files.key, "private key"),
        name=files.name,
    )
    if files.certificate is not None and files.key is not None:
        _check_pair(files.certificate, files.key)
    return read


def _pem(option: str, file: Path | None, what: str) -> bytes:
    if file is None:
        return b""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ServiceError(option, message=str(error), advice="name a PEM file") from error
    # The file may be a key: what is in it is not shown.
    if b"-----BEGIN " not in content:
        raise ServiceError(option, message=f"{str(file)!r} is no PEM", advice="name a PEM file")
    if not re.search(rb"-----BEGIN ([A-Z0-9]+ )*%s-----" % what.upper().encode(), content):
        message = f"{str(file)!r} has no {what}"
        raise ServiceError(option, message=message, advice="name a PEM file that has")
    return content


def _check_pair(certificate: Path, key: Path) -> None:
    """Refuse a key that is another's: gRPC says of it that no handshaker can be made, and no more.

    What else OpenSSL does not like may be well with gRPC's library.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            raise ServiceError(
                "--grpclb-tls-key",
                message=f"{str(key)!r} is not the key of the first certificate of "
                "--grpclb-tls-cert",
                advice="give the one that is",
            ) from error
