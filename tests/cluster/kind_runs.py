"""What tests of the kind provider have in common; see also conftest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_grpclb.clusters.kind.provider import KindProvider


def begin(cluster: KindProvider) -> KindProvider:
    cluster.start()
    cluster.wait()
    return cluster
