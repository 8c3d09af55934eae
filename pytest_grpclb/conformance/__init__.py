"""What every cluster provider must pass; for your own: parametrize a test over CHECKS.

Each check takes a `Subject` whose namespace is empty, and raises AssertionError, ApiError,
NotReadyError or DriverError if the cluster does not do what Kubernetes does. It skips the test and
says why, where the cluster has no ingress controller, or whoever asks may not make roles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.conformance import api, traffic, workloads
from pytest_grpclb.conformance.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CHECKS", "Subject"]

CHECKS: Mapping[str, Callable[[Subject], None]] = {
    name.removeprefix("check_"): getattr(module, name)
    for module in (api, workloads, traffic)
    for name in module.__all__
}
"""Every check, by what it holds the cluster to."""
