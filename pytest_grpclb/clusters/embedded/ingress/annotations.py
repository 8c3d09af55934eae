"""Annotations of Ingress objects: what they ask for, and what of it cannot be had.

:source: ingress-nginx v1.15.1, user guide, "Annotations"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PREFIX", "Annotations", "read_annotations"]

PREFIX = "nginx.ingress.kubernetes.io/"

_PROTOCOLS = ("GRPC", "GRPCS", "HTTP", "HTTPS")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_SIZE = re.compile(r"[0-9]{1,9}[bkmg]?", re.IGNORECASE)
"""nginx refuses its whole configuration for a size beyond 64 bits."""
_WITHOUT_EFFECT = re.compile(
    r"proxy-ssl-[a-z-]+|proxy-next-upstream(?:-[a-z]+)?|custom-http-errors|proxy-buffer[a-z-]*"
    r"|proxy-http-version|proxy-request-buffering"
)
"""Taken by ingress-nginx without a word and never rendered where the backend protocol is GRPC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What one Ingress asks for; the defaults are ingress-nginx's."""

    backend_protocol: str = "HTTP"
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    ssl_passthrough: bool = False
    service_upstream: bool = False
    connect_timeout_s: int = 5
    send_timeout_s: int = 60
    read_timeout_s: int = 60
    body_size: str = "1m"


def read_annotations(given: Mapping[str, str]) -> tuple[Annotations, tuple[str, ...]]:
    """Return what annotations ask for, and a sentence on each that has no effect."""
    values: dict[str, object] = {}
    problems = []
    for key, text in sorted(given.items()):
        name = key.removeprefix(PREFIX)
        if name == key:
            continue
        known = _KNOWN.get(name)
        if known is None:
            problems.append(_unknown(key, name))
            continue
        field, parse, expected = known
        value = parse(text)
        if value is None:
            problems.append(
                f"annotation {key}: {text!r} cannot be used; expected {expected}; the default holds"
            )
        else:
            values[field] = value
    return Annotations(**values), tuple(problems)  # type: ignore[arg-type]


def _unknown(key: str, name: str) -> str:
    if _WITHOUT_EFFECT.fullmatch(name):
        return f"annotation {key} has no effect on gRPC: ingress-nginx renders nothing for it"
    return f"annotation {key} is not known to the embedded ingress and has no effect here"


def _boolean(text: str) -> bool | None:
    return True if text in _TRUE else False if text in _FALSE else None


def _seconds(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _size(text: str) -> str | None:
    return text.lower().removesuffix("b") if _SIZE.fullmatch(text) else None


def _protocol(text: str) -> str | None:
    protocol = text.strip().upper()
    return protocol if protocol in _PROTOCOLS else None


_KNOWN: Mapping[str, tuple[str, Callable[[str], object], str]] = {
    "backend-protocol": ("backend_protocol", _protocol, f"one of {', '.join(_PROTOCOLS)}"),
    "force-ssl-redirect": ("force_ssl_redirect", _boolean, '"true" or "false"'),
    "proxy-body-size": ("body_size", _size, 'a size such as "1m"; "0" is no limit'),
    "proxy-connect-timeout": ("connect_timeout_s", _seconds, "whole seconds without a unit"),
    "proxy-read-timeout": ("read_timeout_s", _seconds, "whole seconds without a unit"),
    "proxy-send-timeout": ("send_timeout_s", _seconds, "whole seconds without a unit"),
    "service-upstream": ("service_upstream", _boolean, '"true" or "false"'),
    "ssl-passthrough": ("ssl_passthrough", _boolean, '"true" or "false"'),
    "ssl-redirect": ("ssl_redirect", _boolean, '"true" or "false"'),
}
