"""What is called: plain values as those of `model`, which has them as well."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["DEFAULT_BACKEND_KEY", "CallKind", "CallTemplate", "NamedCall"]

DEFAULT_BACKEND_KEY = "grpclb-backend"
"""Response metadata key by which a service names its pod if it does so for this plugin."""


class CallKind(enum.Enum):
    """Who sends how many messages in a call.

    :source: gRPC, "Core concepts, architecture and lifecycle"
    """

    UNARY = "unary"
    SERVER_STREAMING = "server streaming"
    BIDIRECTIONAL_STREAMING = "bidirectional streaming"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTemplate:
    """One call: a method name and request bytes."""

    method: str
    """package.Service/Method, with or without a slash before it."""
    request: bytes = b""
    timeout_s: float = 10.0
    metadata: tuple[tuple[str, str], ...] = ()
    backend_key: str = DEFAULT_BACKEND_KEY
    """Response metadata key that names the pod that answered: by its UID, or its address with or
    without a port, as proxies tell it. Of use where neither a proxy nor the connection tells."""
    kind: CallKind = CallKind.UNARY
    message_interval_s: float | None = None
    """Bidirectional streaming: between two messages that the client sends, each of them the
    request; None: it sends one only."""
    messages: int | None = None
    """A stream ends after so many: sent, if it is bidirectional, else received; None: not so."""
    duration_s: float | None = None
    """A stream ends so long after its first answer; None: not so."""
    requests: tuple[bytes, ...] = ()
    """Of their own for so many calls, by sequence number, then again from the first; empty: all
    send ``request``."""
    allowed_status: tuple[int, ...] = ()
    """gRPC status codes beside OK that are answers of the service, and no failures."""
    backend_field: tuple[int, ...] = ()
    """Numbers of the fields that lead to the one of the reply that names the pod; empty: none."""
    backend_field_name: str = ""
    """The same for people: "pod.uid"."""

    def __post_init__(self) -> None:
        """Have the method's name begin with a slash, as on the wire."""
        object.__setattr__(self, "method", f"/{self.method.removeprefix('/')}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCall:
    """One unary call as people write it: its request becomes bytes when its types are known."""

    method: str
    """package.Service/Method"""
    request: Any = None
    """A JSON object, a message, bytes, or a function that makes one of these of a call's sequence
    number; None: empty."""
    timeout_s: float = 10.0
    metadata: tuple[tuple[str, str], ...] = ()
    allowed_status: tuple[int, ...] = ()
    backend_key: str = ""
    """As in `CallTemplate`; empty: as there."""
    backend_field: str = ""
    """Field of the reply that names the pod, such as "pod.uid"; empty: there is none."""
