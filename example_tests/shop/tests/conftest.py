"""What is called: one item of the catalog."""

from __future__ import annotations

import pytest
from shop import catalog_pb2

from pytest_grpclb import CallTemplate


@pytest.fixture
def grpclb_call() -> CallTemplate:
    return CallTemplate(
        method="/shop.v1.Catalog/GetItem",
        request=catalog_pb2.GetItemRequest(sku="cup-01").SerializeToString(),
        backend_key="x-served-by",
    )
