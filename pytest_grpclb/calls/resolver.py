"""Makes of a method's name and what is to be asked a call that the driver can send."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from google.protobuf import descriptor_pb2

from pytest_grpclb.calls.encoding import encode, field_numbers
from pytest_grpclb.calls.names import full_name
from pytest_grpclb.calls.reflection import reflected
from pytest_grpclb.calls.types import types_of_files
from pytest_grpclb.errors import CallError, TypesError
from pytest_grpclb.model import DEFAULT_BACKEND_KEY, CallTemplate, NamedCall
from pytest_grpclb.settings import status_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_grpclb.calls.reflection import Exchange
    from pytest_grpclb.calls.types import Types
    from pytest_grpclb.settings import TypeSource

__all__ = ["BATCH", "PROVISIONAL_CALL", "CallChanges", "Resolver", "changed"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

BATCH = 1000
"""Requests that a factory makes beforehand; calls beyond that many send them again, in turn. Each
run is given them in one message, so that the driver need not know how they are made."""
_BATCH_BYTES = 32 * 2**20
"""Half of what a driver receives at once."""

_UNIMPLEMENTED = 12
PROVISIONAL_CALL = CallTemplate(
    method="/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    request=b"\x3a\x00",  # list_services: ""
    allowed_status=(_UNIMPLEMENTED,),
)
"""A call that changes nothing in any service, for as long as the test's own cannot be made: its
types are asked of a server that is yet to be reached."""


class CallChanges(TypedDict, total=False):
    """What one run calls in place of what its test does."""

    method: str
    """package.Service/Method"""
    request: Any
    """A JSON object, a message, bytes, or a function that makes one of a call's sequence number."""
    timeout_s: float
    metadata: Mapping[str, str]
    allowed_status: str | Iterable[object]
    """Names of gRPC status codes, or members of ``grpc.StatusCode``."""


def changed(call: CallTemplate | NamedCall, changes: CallChanges) -> CallTemplate | NamedCall:
    """Return *call* with *changes*.

    :raises ValueError: if one of them cannot be used
    """
    made: dict[str, Any] = {
        name: value for name, value in changes.items() if name in {"method", "request", "timeout_s"}
    }
    if unknown := changes.keys() - CallChanges.__annotations__.keys():
        raise TypeError(
            f"unexpected {', '.join(map(repr, sorted(unknown)))}; a call has "
            f"{', '.join(CallChanges.__annotations__)}"
        )
    if "metadata" in changes:
        made["metadata"] = tuple(changes["metadata"].items())
    if "allowed_status" in changes:
        given = changes["allowed_status"]
        names = [given] if isinstance(given, str) else given
        made["allowed_status"] = status_codes("allowed_status", names)
    if isinstance(call, CallTemplate) and made.keys() & {"method", "request"}:
        call = NamedCall(
            method=call.method.lstrip("/"),
            request=call.request,
            timeout_s=call.timeout_s,
            metadata=call.metadata,
            allowed_status=call.allowed_status,
            backend_key=call.backend_key,
        )
    if "method" in made:
        # Another method's request would not fit it.
        made = {"request": None, **made}
    return replace(call, **made)


@dataclass(slots=True, kw_only=True)
class Resolver:
    """Knows where the types of a service come from, and asks there once."""

    source: TypeSource
    exchange: Exchange | None = None
    """Leads to the service; None: it cannot be reached yet."""
    _types: dict[str, Types] | None = None

    def early(self, call: CallTemplate | NamedCall) -> CallTemplate:
        """Return the call to send, or one that does in its place until the service can be asked."""
        asks = (
            isinstance(call, NamedCall)
            and self.source.empty
            and not (isinstance(call.request, bytes) and not call.backend_field)
        )
        return PROVISIONAL_CALL if asks else self.template(call, calls=1)

    def template(self, call: CallTemplate | NamedCall, *, calls: int = 0) -> CallTemplate:
        """Return the call to send.

        :param calls: how many calls of it there will be, at most; 0: nobody knows
        :raises CallError: if there is no such method, it streams, or a request does not fit it
        :raises TypesError: if its types cannot be had
        """
        if isinstance(call, CallTemplate):
            return call
        template = CallTemplate(
            method=full_name(call.method),
            timeout_s=call.timeout_s,
            metadata=call.metadata,
            allowed_status=call.allowed_status,
            backend_key=call.backend_key or DEFAULT_BACKEND_KEY,
        )
        if isinstance(call.request, bytes) and not call.backend_field:
            return replace(template, request=call.request)
        try:
            types = self._types_of(call.method)
        except TypesError:
            # An empty request is the same in every type.
            if not self.source.empty or call.request or call.backend_field:
                raise
            return template
        method = descriptor_pb2.MethodDescriptorProto()
        types.method(call.method).CopyToProto(method)  # older descriptors lack what it says
        for side, message in (("client", "requests"), ("server", "replies")):
            if getattr(method, f"{side}_streaming"):
                raise CallError(
                    call.method,
                    what=f"it streams its {message}, and a unary method is asked for",
                    advice="name a method without 'stream' in its definition",
                )
        if call.backend_field:
            template = replace(
                template,
                backend_field=field_numbers(types, call.method, call.backend_field),
                backend_field_name=call.backend_field,
            )
        if not callable(call.request):
            request = {} if call.request is None else call.request
            return replace(template, request=encode(types, call.method, request))
        return replace(template, requests=_batch(types, call.method, call.request, calls))

    def _types_of(self, method: str) -> Types:
        if not self.source.empty:
            return types_of_files(self.source)
        assert self.exchange is not None
        service = full_name(method).rpartition("/")[0]
        known = self._types = self._types or {}
        if service not in known:
            known[service] = reflected(method, self.exchange)
        return known[service]


def _batch(
    types: Types, method: str, factory: Callable[[int], object], calls: int
) -> tuple[bytes, ...]:
    requests: list[bytes] = []
    size = 0
    for sequence in range(min(calls or BATCH, BATCH)):
        encoded = encode(types, method, factory(sequence))
        size += len(encoded)
        if size > _BATCH_BYTES and requests:
            break
        requests.append(encoded)
    return tuple(requests)
