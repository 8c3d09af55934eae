"""What a source of backends gives to the stage that installs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.model import Manifest, Service
    from pytest_grpclb.settings import Settings

__all__ = ["Backends", "Source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The pods under test, and what brings them."""

    service: Service
    manifests: tuple[Manifest, ...] = ()
    """To be applied; none where the pods run already."""
    replicas: int
    """How many are ready once all is in place."""
    borrowed: bool = False
    """Somebody else's: nothing of it is changed unless `may_change`, and nothing deleted."""
    may_change: bool = True
    crashes_allowed: int | None = None
    """Starts in a row that may fail before waiting is given up; None: until the time is up."""


class Source(Protocol):
    """A place that backends come from."""

    def backends(self, api: KubeApi, settings: Settings, *, namespace: str) -> Backends:
        """Describe the backends, and what is to be applied for them. Nothing is changed.

        :param namespace: the test's own
        :raises GrpclbError: if they cannot be had as the user has described them
        """
