"""What the tests of the shop's own repository have in their conftest file."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pytest_grpclb.sources.protocol import Backends
from pytest_grpclb.workloads import service_of


class Shop:
    """The shop's Deployment, without a chart."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def backends(self, _api: Any, _settings: Any, *, namespace: str) -> Backends:
        manifests = self.manifests(namespace=namespace)
        service = service_of(manifests, namespace=namespace, source="the shop")
        return Backends(service=service, manifests=tuple(manifests), replicas=self.replicas)

    def manifests(self, *, namespace: str) -> list[dict[str, Any]]:
        labels = {"app": "shop"}
        uid = {"fieldRef": {"fieldPath": "metadata.uid"}}
        container = {
            "name": "shop",
            "image": "example.org/shop:1",
            "ports": [{"name": "grpc", "containerPort": 50051}],
            "env": [
                {"name": "POD_UID", "valueFrom": uid},
                {"name": "SLOW_SUFFIX", "value": os.environ.get("SHOP_SLOW_SUFFIX", "-")},
            ],
            "readinessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 1},
        }
        return [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "shop", "namespace": namespace, "labels": labels},
                "spec": {
                    "replicas": self.replicas,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [container]},
                    },
                },
            }
        ]


@pytest.fixture
def grpclb_service(grpclb_settings: Any) -> Shop:
    return Shop(grpclb_settings.replicas)
