"""The one node: what all its pods share."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_grpclb.clusters.embedded.network.network import AddressPool
    from pytest_grpclb.clusters.embedded.node.images import Images
    from pytest_grpclb.clusters.embedded.node.processes import Processes
    from pytest_grpclb.clusters.embedded.store.recorder import Recorder
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["BackOff", "Node", "base_environment"]

_INHERITED = (
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "TMPDIR",
    "VIRTUAL_ENV",
)
"""What an interpreter needs to find libraries and modules; nothing else of the user's leaks in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """How long a container that keeps ending waits before it is started again.

    :source: Kubernetes documentation, "Container restarts": at once, then 10 s, 20 s, ... 300 s;
        from the beginning again after 10 minutes without a problem
    """

    first_s: float = 10.0
    longest_s: float = 300.0
    forgotten_s: float = 600.0

    def pause_s(self, ends: int) -> float:
        """Return the pause after so many ends in a row."""
        # The exponent is bounded, or some thousand restarts would overflow a float.
        return 0.0 if ends <= 1 else min(self.first_s * 2.0 ** min(ends - 2, 32), self.longest_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What pods run on and with."""

    name: str
    address: str
    labels: Mapping[str, str]
    store: Store
    processes: Processes
    images: Images
    recorder: Recorder
    addresses: AddressPool
    directory: Path
    """Holds a directory for each pod."""
    commands_directory: Path
    """Where commands that images are mapped to run."""
    environment: Mapping[str, str]
    """Variables that every container begins with."""
    account_files: Callable[[Object], Mapping[str, bytes]]
    """Returns what a pod is given of its service account, as files."""
    back_off: BackOff = BackOff()


def base_environment(*, dns: tuple[str, int], api: tuple[str, int]) -> dict[str, str]:
    """Return what every container begins with: few variables of this process, and the cluster's."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return kept | {
        "PATH": path,
        "GRPCLB_CLUSTER_DNS": f"{dns[0]}:{dns[1]}",
        "KUBERNETES_SERVICE_HOST": api[0],
        "KUBERNETES_SERVICE_PORT": str(api[1]),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(api[1]),
    }
