"""The shop's server: ``python -m shop.server --listen 127.0.0.1:50051``."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from shop import catalog_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SERVICE = "shop.v1.Catalog"
DRAIN_S = 1.0
ITEMS = (
    ("tea-01", "Assam", 450),
    ("tea-02", "Darjeeling", 620),
    ("cup-01", "Cup", 900),
)


def get_item(request: Any, context: grpc.ServicerContext) -> Any:
    """Return one item; without a SKU, that of the day."""
    for sku, name, price_cents in ITEMS:
        if request.sku in {"", sku}:
            return pb.Item(sku=sku, name=name, price_cents=price_cents)
    context.abort(grpc.StatusCode.NOT_FOUND, f"no item has the SKU {request.sku!r}")
    raise AssertionError("unreachable: abort raises")


def list_items(request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
    """Stream the items."""
    for sku, name, price_cents in ITEMS[: request.limit or None]:
        yield pb.Item(sku=sku, name=name, price_cents=price_cents)


def catalog() -> grpc.GenericRpcHandler:
    """Return the handlers of the two methods."""
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "GetItem": grpc.unary_unary_rpc_method_handler(
                get_item,
                request_deserializer=pb.GetItemRequest.FromString,
                response_serializer=pb.Item.SerializeToString,
            ),
            "ListItems": grpc.unary_stream_rpc_method_handler(
                list_items,
                request_deserializer=pb.ListItemsRequest.FromString,
                response_serializer=pb.Item.SerializeToString,
            ),
        },
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="[::]:50051", metavar="ADDRESS:PORT")
    parser.add_argument("--no-reflection", action="store_true")
    parser.add_argument("--no-health", action="store_true")
    parser.add_argument("--tls", metavar="CERTIFICATE,KEY[,CLIENTS_AUTHORITY]")
    flags = parser.parse_args(arguments)

    options = [("grpc.so_reuseport", 0)]
    if age_s := os.environ.get("SHOP_MAX_CONNECTION_AGE"):
        options += [
            ("grpc.max_connection_age_ms", round(float(age_s) * 1000)),
            ("grpc.max_connection_age_grace_ms", 1000),
        ]
    server = grpc.server(ThreadPoolExecutor(max_workers=8), options=options)
    server.add_generic_rpc_handlers([catalog()])
    if not flags.no_health:
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if not flags.no_reflection:
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    if flags.tls:
        server.add_secure_port(flags.listen, credentials(*flags.tls.split(",")))
    else:
        server.add_insecure_port(flags.listen)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server.start()
    print(f"the shop is open: {flags.listen}", flush=True)  # noqa: T201 - its log
    stopped.wait()
    # Clients hear of a pod's end a little later than the pod: it serves them on until they have.
    time.sleep(DRAIN_S)
    server.stop(grace=5).wait()


def credentials(certificate: str, key: str, clients: str = "") -> grpc.ServerCredentials:
    """Return what the server shows, and what it asks of clients, from files."""

    def read(path: str) -> bytes:
        return Path(path).read_bytes()

    return grpc.ssl_server_credentials(
        [(read(key), read(certificate))],
        root_certificates=read(clients) if clients else None,
        require_client_auth=bool(clients),
    )


if __name__ == "__main__":
    main()
