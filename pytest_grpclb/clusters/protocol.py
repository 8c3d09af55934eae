"""What a cluster provider promises: Kubernetes by kubeconfig, and a way to a control port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["Cluster", "ClusterRequest", "Provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRequest:
    """What a provider may know of the run that asks for a cluster."""

    directory: Path
    """Exists, belongs to this run alone; all files of the cluster go below it."""
    embedded_images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For the embedded cluster: the command line that stands for an image."""


class Cluster(Protocol):
    """A Kubernetes cluster for one run. Above this line nobody knows which kind it is.

    It does not promise that pod addresses, ClusterIPs or the cluster's DNS can be reached from the
    test process: measured traffic starts in a pod.
    """

    @property
    def kubeconfig(self) -> Path:
        """The file that leads to the API; valid after `wait`."""

    @property
    def context(self) -> str:
        """The context of that file to use."""

    @property
    def programs_image(self) -> str:
        """The image of this package's own programs, as pods name it: always REPOSITORY:TAG."""

    @property
    def dns_cache_s(self) -> float:
        """How long the cluster's DNS may go on giving an old answer."""

    def start(self) -> None:
        """Begin to create the cluster and return at once.

        :raises ClusterUnavailableError: if this machine lacks what the provider needs
        """

    def wait(self, timeout_s: float = ...) -> None:
        """Return when the API answers.

        :raises ClusterStartError: if it does not within *timeout_s*
        """

    def reach(
        self, namespace: str, pod: str, address: str, port: int
    ) -> AbstractContextManager[str]:
        """Give a "host:port" that leads this process to a pod's *port*: never for measured calls.

        :param pod: the pod's name
        :param address: the pod's own address
        """

    def close(self) -> None:
        """End all that the provider started; safe to call twice and before `start`."""


Provider = Callable[[ClusterRequest], Cluster]
"""Makes a cluster that is not started yet; cheap, and free of side effects."""
