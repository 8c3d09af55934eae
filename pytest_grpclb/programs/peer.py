"""The other end of the connection that carried a call, as gRPC's core knows it.

gRPC's Python clients do not tell it, though servers do: the core's ``grpc_call_get_peer`` is
wrapped by the class of the server's calls alone. Its method is borrowed: an object of that class is
lent the client's call for the length of one question. It takes less than a microsecond and is exact
for each call, also where a call was moved to another connection (transparent retries).

What the classes look like is checked before it is used; where it is not as expected, `Peers` says
so and is not used. Seen to hold from grpcio 1.49.1 to 1.85.3.

:source: grpc/grpc.h, ``grpc_call_get_peer``; grpcio, ``_cygrpc/call.pyx.pxi`` and ``_cygrpc/aio``
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any
from urllib.parse import unquote

from grpc._cython import cygrpc

__all__ = ["Peers", "address_of"]

_HEAD = object.__basicsize__
_POINTER = ctypes.sizeof(ctypes.c_void_p)


class Peers:
    """Tells the peer of asyncio calls. Not for use by several threads."""

    def __init__(self) -> None:
        self.problem = _problem()
        """Why it cannot be used with this gRPC; empty: it can."""
        if not self.problem:
            self._lender = cygrpc.Call()
            self._lent = ctypes.c_void_p.from_address(id(self._lender) + _HEAD)

    def of(self, call: Any) -> str | None:
        """Return the address of who answered *call*, "ip:port"; None: nobody did.

        :param call: of ``grpc.aio``, not made by interceptors; it has ended
        """
        core_call = getattr(call, "_cython_call", None)
        if self.problem or not isinstance(core_call, cygrpc.GrpcCallWrapper):
            return None
        self._lent.value = ctypes.c_void_p.from_address(id(core_call) + _HEAD).value
        if self._lent.value is None:
            return None
        try:
            peer: bytes = self._lender.peer()
        finally:
            self._lent.value = None  # else it would be given back twice
        return address_of(peer.decode())


def address_of(peer: str) -> str | None:
    """Return "ip:port" of what gRPC calls a peer; None: it is no IP address.

    :source: grpc/doc/naming.md
    """
    for scheme in ("ipv4:", "ipv6:"):
        if peer.startswith(scheme):
            return unquote(peer.removeprefix(scheme))
    return None


def _problem() -> str:
    """Check that both classes hold the call's pointer where it is looked for."""
    wrapper, call = getattr(cygrpc, "GrpcCallWrapper", None), getattr(cygrpc, "Call", None)
    if wrapper is None or call is None:
        return "this gRPC has other classes"
    if wrapper.__basicsize__ != _HEAD + _POINTER or call.__basicsize__ != _HEAD + 2 * _POINTER:
        return "this gRPC keeps its calls otherwise"
    lender = call()
    first, second = (
        ctypes.c_void_p.from_address(id(lender) + _HEAD + _POINTER * index).value
        for index in range(2)
    )
    # A list beside the pointer, which is none as yet: nothing else can be told from outside.
    if first is not None or [id(each) for each in gc.get_referents(lender)] != [second]:
        return "this gRPC keeps its calls otherwise"
    return ""
