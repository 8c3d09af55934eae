"""Ingresses, Services and their endpoints in a store, for tests of what nginx is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.certificates import Authority
from pytest_grpclb.clusters.embedded.ingress.configuration import (
    Location,
)
from pytest_grpclb.clusters.embedded.ingress.translate import INGRESSES, translate

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Store

PREFIX = "nginx.ingress.kubernetes.io/"
AUTHORITY = Authority()


def endpoints(store: Store, *places: tuple[str, bool | None]) -> None:
    store.create(
        "endpointslices.discovery.k8s.io",
        {
            "metadata": {
                "generateName": "shop-",
                "namespace": "ns",
                "labels": {"kubernetes.io/service-name": "shop"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": 50051}],
            "endpoints": [
                {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
                for address, ready in places
            ],
        },
    )


def backend(port: dict[str, Any]) -> dict[str, Any]:
    return {"service": {"name": "shop", "port": port}}


GRPC = backend({"name": "grpc"})


def ingress(
    store: Store,
    *rules: tuple[str, str, str],
    name: str = "web",
    to: dict[str, Any] = GRPC,
    spec: dict[str, Any] | None = None,
    **annotations: str,
) -> None:
    store.create(
        INGRESSES,
        {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "annotations": {
                    PREFIX + key.replace("_", "-"): value for key, value in annotations.items()
                },
            },
            "spec": {
                "ingressClassName": "nginx",
                "rules": [
                    {
                        "host": host,
                        "http": {"paths": [{"path": path, "pathType": kind, "backend": to}]},
                    }
                    for host, path, kind in rules
                ],
                **(spec or {}),
            },
        },
    )


def location(**changed: Any) -> Location:
    fields: dict[str, Any] = {
        "path": "/",
        "exact": False,
        "upstream": "ns-shop-grpc",
        "protocol": "HTTP",
        "redirects": False,
        "connect_timeout_s": 5,
        "send_timeout_s": 60,
        "read_timeout_s": 60,
        "body_size": "1m",
    }
    return Location(**(fields | changed))


def said(store: Store) -> list[str]:
    return [f"{note.reason}: {note.message}" for note in translate(store).notes]
