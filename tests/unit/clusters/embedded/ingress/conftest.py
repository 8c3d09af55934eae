from __future__ import annotations

import datetime as dt

import pytest

from pytest_grpclb.clusters.embedded.ingress.translate import CLASSES
from pytest_grpclb.clusters.embedded.store.store import Store


@pytest.fixture
def store() -> Store:
    store = Store(now=lambda: dt.datetime.now(dt.UTC))
    store.create(
        CLASSES, {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}
    )
    store.create(
        "services",
        {
            "metadata": {"name": "shop", "namespace": "ns"},
            "spec": {
                "clusterIP": "10.0.0.9",
                "ports": [{"name": "grpc", "port": 80, "targetPort": 50051}],
            },
        },
    )
    return store
