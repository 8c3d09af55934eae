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
    commands_directory: Path | None = None
    """For the embedded cluster: where those command lines run; None: in the current directory."""
    run: str = "main"
    """Unique to this run, and the same in all its xdist workers; fit for names of objects."""
    worker: str = "main"
    """Which xdist worker of the run this is; "main" where there are none."""
    image: str = ""
    """A prebuilt image of this package's own programs, REPOSITORY:TAG or with a digest; empty: none
    was named."""
    base_image: str = ""
    """What the image of these programs begins with, where it is built; empty: a public one."""
    load_images: tuple[str, ...] = ()
    """Images of this machine that pods will use, REPOSITORY:TAG."""
    kubeconfig: str = ""
    context: str = ""
    kind_program: str = ""
    """Where kind is; empty: it is looked for."""
    kind_image: str = ""
    kind_config: Path | None = None
    kind_name: str = ""
    keep: Callable[[], bool] = lambda: False
    """Whether what the run made is to stay, as far as is known when this is asked."""
    failed: Callable[[], bool] = lambda: False
    """Whether a test of this worker has failed, as far as is known when this is asked."""
    tell: Callable[[str], None] = lambda _line: None
    """Shows a line to the user at the end of the run."""
    ingress: str = ""
    """Where an existing cluster's ingress listens: HOST[:HTTPS_PORT[:HTTP_PORT]]."""
    ingress_class: str = ""
    """The IngressClass that the run names for all tests; empty: none."""
    artifacts: Path | None = None
    """Where to put what explains a failure; None: nowhere."""

    @property
    def label(self) -> str:
        """What namespaces of this worker carry as the value of the run's label."""
        return f"{self.run}-{self.worker}"


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

    @property
    def kill_s(self) -> float:
        """How long a pod that is deleted without grace may run on."""

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

    def check_image(self, image: str) -> None:
        """Do nothing if pods may use *image*, as far as that can be told before they do.

        :raises ClusterUnavailableError: if what it takes is missing on this machine
        """

    @property
    def ingress_workers(self) -> int | None:
        """How many workers of the ingress pick backends, each by itself; None: it is not known."""

    @property
    def ingress_push_s(self) -> float:
        """How long the ingress may go on as before when a Service's endpoints have changed."""

    def ingress_files(self) -> Mapping[str, str]:
        """Return what explains the ingress's doings, by file name: its configuration, its logs."""

    def ingress_address(self, *, https: bool) -> str:
        """Give the "host:port" where calls from outside enter, for every host of its Ingresses.

        :raises ClusterUnavailableError: if the cluster has no ingress controller of class nginx
        """

    def deletion_command(self, namespace: str) -> str:
        """Return the command that deletes *namespace* when it was kept.

        Empty: it ends with the run, whatever is to be kept.
        """

    def close(self) -> None:
        """End all that the provider started; safe to call twice and before `start`."""


Provider = Callable[[ClusterRequest], Cluster]
"""Makes a cluster that is not started yet; cheap, and free of side effects."""
