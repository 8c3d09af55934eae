"""The shop's types, compiled once, and a server of it that can tell them."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from pytest_grpclb.calls import Types, types_of_files
from pytest_grpclb.settings import TypeSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_grpclb.calls.reflection import Exchange

SHOP = Path(__file__).parents[2] / "plugin" / "shop"
SOURCE = TypeSource(protos=(SHOP / "shop.proto",), proto_path=(SHOP,))


@pytest.fixture(scope="session")
def shop() -> Types:
    return types_of_files(SOURCE)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """Lead questions to a server with reflection, whose one service is the health service."""
    from grpc_health.v1 import health, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    pool = futures.ThreadPoolExecutor(4)
    server = grpc.server(pool, options=(("grpc.so_reuseport", 0),))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    reflection.enable_server_reflection(("grpc.health.v1.Health", "shop.v1.Unseen"), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]
    ) as channel:

        def ask(method: str, requests: Sequence[bytes]) -> tuple[list[bytes], int, str]:
            answers: list[bytes] = []
            for request in requests:
                call = channel.unary_stream(method)(request)
                try:
                    answers += list(call)
                except grpc.RpcError as error:
                    return answers, error.code().value[0], error.details()
            return answers, 0, ""

        yield ask
    server.stop(None).wait()
    pool.shutdown()
