"""The shop: it says nothing of pods in any header, and knows nothing of this package.

A program of its own, as a service repo has one: ``server.py IP PORT [reflection] [tells-pod]``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import grpc_tools.protoc
from google.protobuf import (  # what the types import: generated code imports it as well
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
)

SERVICE = "shop.v1.Catalog"
FILE = "shop.proto"


def register(scratch: Path) -> None:
    """Put the shop's types into the common pool, as generated code does."""
    include = Path(grpc_tools.protoc.__file__).parent / "_proto"
    made = scratch / f"shop-{os.getpid()}.pb"
    arguments = ["protoc", f"-I{Path(__file__).parent}", f"-I{include}", "--include_imports"]
    assert grpc_tools.protoc.main([*arguments, f"--descriptor_set_out={made}", FILE]) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes())
    made.unlink()
    for file in files.file:
        if file.name == duration_pb2.DESCRIPTOR.name:
            continue
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def message(name: str) -> Any:
    descriptor = descriptor_pool.Default().FindMessageTypeByName(f"shop.v1.{name}")
    get: Any = getattr(message_factory, "GetMessageClass", None)
    if get is None:
        factory: Any = message_factory.MessageFactory(descriptor_pool.Default())
        get = factory.GetPrototype
    return get(descriptor)


def main(ip: str, port: str, *flags: str) -> None:
    register(Path(os.environ.get("TMPDIR", "/tmp")))
    request_type, item_type = message("GetItemRequest"), message("Item")

    def get_item(request: Any, context: Any) -> Any:
        if request.id == "missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such item")
        pause_s = request.pause.seconds + request.pause.nanos / 1e9
        if pause_s and ip.endswith(os.environ.get("SLOW_SUFFIX", "-")):
            time.sleep(pause_s)
        item = item_type(id=request.id, price=7)
        item.names.extend(f"{key}={value}" for key, value in context.invocation_metadata())
        if "tells-pod" in flags:
            item.pod.uid = os.environ["POD_UID"]
        return item

    def watch(request: Any, _context: Any) -> Any:
        yield item_type(id=request.id)

    methods = {
        "GetItem": grpc.unary_unary_rpc_method_handler(
            get_item,
            request_deserializer=request_type.FromString,
            response_serializer=item_type.SerializeToString,
        ),
        "WatchItems": grpc.unary_stream_rpc_method_handler(
            watch,
            request_deserializer=request_type.FromString,
            response_serializer=item_type.SerializeToString,
        ),
    }
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    if "reflection" in flags:
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    server.add_insecure_port(f"{ip}:{port}")
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    server.start()
    ending.wait()
    server.stop(1.0).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
