"""Fixtures and assertions for gRPC load balancing on Kubernetes.

Public names are imported when they are first used: pytest imports this package in every run of an
environment that has it, also where no test needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_grpclb._version import __version__

if TYPE_CHECKING:
    from pytest_grpclb.asserts import (
        assert_even_spread,
        assert_even_streams,
        assert_ingress_reachable,
        assert_no_calls_to,
        assert_no_failed_calls,
        assert_pinned,
        assert_rebalanced,
        assert_redirects_to_https,
        assert_share,
        assert_streams_stay,
        assert_tls_terminated,
        assert_weighted_spread,
    )
    from pytest_grpclb.errors import GrpclbError
    from pytest_grpclb.handle import Grpclb
    from pytest_grpclb.model import CallKind, CallTemplate, EventKind, Outcome, Traffic, Verdict
    from pytest_grpclb.running import RunningTraffic
    from pytest_grpclb.settings import IngressSettings, Settings
    from pytest_grpclb.sources.fitting import LeftOutWarning
    from pytest_grpclb.sources.rendered import ServiceSource

__all__ = [
    "CallKind",
    "CallTemplate",
    "EventKind",
    "Grpclb",
    "GrpclbError",
    "IngressSettings",
    "LeftOutWarning",
    "Outcome",
    "RunningTraffic",
    "ServiceSource",
    "Settings",
    "Traffic",
    "Verdict",
    "__version__",
    "assert_even_spread",
    "assert_even_streams",
    "assert_ingress_reachable",
    "assert_no_calls_to",
    "assert_no_failed_calls",
    "assert_pinned",
    "assert_rebalanced",
    "assert_redirects_to_https",
    "assert_share",
    "assert_streams_stay",
    "assert_tls_terminated",
    "assert_weighted_spread",
]

_HOMES = {
    "CallKind": "model",
    "CallTemplate": "model",
    "EventKind": "model",
    "Grpclb": "handle",
    "GrpclbError": "errors",
    "IngressSettings": "settings",
    "LeftOutWarning": "sources.fitting",
    "Outcome": "model",
    "RunningTraffic": "running",
    "ServiceSource": "sources.rendered",
    "Settings": "settings",
    "Traffic": "model",
    "Verdict": "model",
}
"""Module of each public name; names that begin with ``assert_`` live in ``asserts``."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "asserts" if name.startswith("assert_") else _HOMES[name]
    return getattr(import_module(f"{__name__}.{home}"), name)
