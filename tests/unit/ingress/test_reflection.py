"""Reflection on an open channel: the version that the server has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from pytest_grpclb._pb import reflection_pb2 as pb
from pytest_grpclb.ingress.reflection import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKED: list[str] = []


class OfOneVersion(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A server's reflection."""

    def __init__(self, version: str) -> None:
        self._method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"

    def service(self, handler_call_details: Any) -> Any:
        ASKED.append(handler_call_details.method)
        if handler_call_details.method != self._method:
            return None
        return grpc.stream_stream_rpc_method_handler(self._answer)

    def _answer(self, requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        for _ in requests:
            answer = pb.Response()
            answer.list_services_response.service.add(name="shop.v1.Catalog")
            yield answer.SerializeToString()


def asked(version: str, *, known: str = "") -> tuple[str, tuple[str, ...]]:
    ASKED.clear()
    server = grpc.server(ThreadPoolExecutor(1), handlers=(OfOneVersion(version),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            return listed(channel, 10, version=known)
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(("version", "questions"), [("v1", 1), ("v1alpha", 2)])
def test_either_version_will_do(version: str, questions: int) -> None:
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    assert asked(version) == (method, ("shop.v1.Catalog",))
    assert len(ASKED) == questions
    # Once it is known, the other is not asked for again.
    assert asked(version, known=method) == (method, ("shop.v1.Catalog",))
    assert [method] == ASKED


def test_a_server_without_reflection_lists_nothing() -> None:
    assert asked("v2") == ("", ())
