"""A real Kubernetes in containers, by kind: one cluster for a run and all its xdist workers."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pytest_grpclb.clusters import image as own_image
from pytest_grpclb.clusters.engine import Engine, find_engine, run
from pytest_grpclb.clusters.kind.config import IMAGE_FOR_CGROUP_V1, needs_cgroup_v2, read
from pytest_grpclb.clusters.kind.images import bring_images
from pytest_grpclb.clusters.kind.program import check_ready, find_kind
from pytest_grpclb.clusters.kind.remote import lead_to, remote_host
from pytest_grpclb.clusters.kind.sharing import Share, locked, shared_directory
from pytest_grpclb.clusters.real import DNS_CACHE_S, INGRESS_PUSH_S, KILL_S
from pytest_grpclb.clusters.termination import Termination
from pytest_grpclb.errors import (
    ApiError,
    ClusterStartError,
    ClusterUnavailableError,
    CommandError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.clusters.protocol import ClusterRequest

__all__ = ["KindProvider"]

_NAME = "kind"
_CREATE_S = 600.0
"""A node image of 1 GB to pull, a minute or two to start; beyond this something hangs."""
_READY_S = 180
"""What kind waits for the control plane (``--wait``)."""
_ATTEMPTS = 3
"""Of creating: ports that kind finds free may be taken by another before Docker takes them."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where others listen
"""A port that is mapped on every address of this machine is reached by one of them."""
_PORT_TAKEN = ("port is already allocated", "address already in use")
"""In what kind says when a port of the host is taken.

:source: moby, ``libnetwork/portallocator``; rootlessport of podman
"""


class KindProvider:
    """A cluster in containers of this machine.

    It is created once per run under a lock, and deleted by the last xdist worker; one that was
    there already under the name asked for is used and left. The user's kubeconfig and contexts are
    not touched: the cluster has a kubeconfig of its own.
    """

    dns_cache_s = DNS_CACHE_S
    kill_s = KILL_S
    ingress_workers = None
    ingress_push_s = INGRESS_PUSH_S

    def __init__(self, request: ClusterRequest) -> None:
        self._request = request
        self.name = request.kind_name or f"grpclb-{request.run}"
        self.context = f"kind-{self.name}"
        self.programs_image = request.image
        self.kind: Any = None
        """pytest-kind's KindCluster, after `wait`."""
        self._folder: Path | None = None
        self._program: Path | None = None
        self._engine: Engine | None = None
        self._share: Share | None = None
        self._api: KubeApi | None = None
        self._termination = Termination()
        self._has_ingress = False
        self._no_ingress: ClusterStartError | None = None
        self._remote = ""
        """The machine where the nodes run; empty: this one."""
        self._ours = True
        """Whether the cluster was made by a run, not there before."""

    @property
    def kubeconfig(self) -> Path:
        """Return the file that leads to the API; all workers of the run share it."""
        assert self._folder is not None, "start() comes first"
        return self._folder / f"{self.name}.kubeconfig"

    # --- its life

    def start(self) -> None:
        """Find what it takes; the cluster is created by `wait`.

        :raises ClusterUnavailableError: if pytest-kind, kind or a container engine is missing or
            too old, or the nodes would not start on this machine
        :raises OptionError: if the user's configuration file cannot be used
        """
        self._config()
        if not _has_pytest_kind():
            raise ClusterUnavailableError(
                _NAME,
                reason="pytest-kind is not installed",
                advice="install it with: pip install 'pytest-grpclb[kind]'",
            )
        self._engine = find_engine(_NAME)
        self._remote = remote_host(self._engine.name)
        named = bool(self._request.kind_image)  # then it is the user who matches one to the other
        self._program = find_kind(self._request.kind_program, any_version=named)
        self._check_cgroups()
        self._folder = shared_directory(_NAME)
        self._termination.open()

    def _check_cgroups(self) -> None:
        """Raise if a node would wait in vain for its kubelet, which does not start here."""
        assert self._engine is not None
        image = needs_cgroup_v2(self._config())
        if not image or self._engine.cgroup_version() != 1 or self.name in self._clusters():
            return
        raise ClusterUnavailableError(
            _NAME,
            reason=f"{self._engine.name} gives containers control groups of version 1, with which "
            f"nodes of {image} do not start (Kubernetes 1.35 and newer)",
            advice=f"set --grpclb-kind-image={IMAGE_FOR_CGROUP_V1}, or use a machine with cgroup "
            "v2",
        )

    def wait(self, timeout_s: float = _CREATE_S) -> None:
        """Create the cluster, unless another worker has or it was there, and load its images.

        :raises ClusterStartError: if that fails; with what kind or the engine said
        """
        from pytest_grpclb.clusters.api.kube import KubeApi

        assert self._folder is not None, "start() comes first"
        try:
            Share.end_abandoned(self._folder, self._delete)
            self._share = Share(self._folder, self.name)
            if not self.programs_image:
                files = own_image.content(self._request.base_image)
                self.programs_image = own_image.reference(files)
            self._ours = self._share.join(lambda claim: self._make(claim, timeout_s))
            self.kind = self._kind_cluster()
            self.kind.create()  # finds that it is there
        except CommandError as error:
            raise ClusterStartError(_NAME, reason=str(error)) from error
        self._api = KubeApi(self.kubeconfig, self.context, scratch=self._request.directory)
        try:
            self._api.request("GET", "/version")
        except ApiError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: ApiError) -> ClusterStartError:
        server = self._api.server if self._api is not None else ""
        reason = f"its API at {server} cannot be reached from here: {error}"
        if self._remote:
            reason += (
                f"; containers run on {self._remote!r}: that name must lead there, and a cluster "
                "that was there before must have been created with networking.apiServerAddress "
                f"0.0.0.0 and {self._remote!r} among the API's certSANs"
            )
        return ClusterStartError(_NAME, reason=reason)

    def close(self) -> None:
        """Have the cluster deleted if this worker was the last to use it."""
        api, self._api = self._api, None
        if api is not None:
            api.close()
        share, self._share = self._share, None
        if share is not None and self._request.failed():
            self._save_logs()
        if share is not None and share.leave(self._end, keep=self._request.keep()):
            self._request.tell(
                f"grpclb: kept kind cluster {self.name!r}; its kubeconfig: {self.kubeconfig}; "
                f"delete it with: {self._deletion()}"
            )
        self._termination.close()

    # --- what a cluster offers

    def reach(
        self, namespace: str, pod: str, address: str, port: int
    ) -> AbstractContextManager[str]:
        """Give the "host:port" of a port-forward to a pod's port."""
        from pytest_grpclb.clusters.api.portforward import forwarded

        del address
        assert self._api is not None, "wait() comes first"
        return forwarded(self._api, namespace, pod, port)

    def check_image(self, image: str) -> None:
        """Do nothing: nodes pull what they have not."""

    def ingress_files(self) -> Mapping[str, str]:
        """Return the logs of the ingress controller's pods, and their nginx's configuration."""
        from pytest_grpclb.clusters import ingress_controller

        assert self._api is not None, "wait() comes first"
        return ingress_controller.files(self._api)

    def ingress_address(self, *, https: bool) -> str:
        """Give the port of this machine that kind maps to the node's own 443 or 80.

        The ingress controller is installed there by the first who asks, unless there is one.

        :raises ClusterUnavailableError: if the cluster was created without that mapping, or its
            class nginx belongs to another controller
        :raises ClusterStartError: if the controller does not get ready
        """
        address = self.host_port(443 if https else 80)
        if not self._has_ingress:
            self._ensure_ingress()
        return address

    def _ensure_ingress(self) -> None:
        from pytest_grpclb.clusters import ingress_controller

        assert self._api is not None, "wait() comes first"
        assert self._folder is not None
        if self._no_ingress is not None:  # it was waited for, and long enough
            raise self._no_ingress
        try:
            with locked(self._lock_of_ingress(self.name)):
                installed = ingress_controller.ensure(
                    self._api,
                    provider=_NAME,
                    node=self._node,
                    loaded=self._request.load_images,
                )
        except ClusterStartError as error:
            self._no_ingress = error
            raise
        self._has_ingress = True
        if installed and not self._ours:
            self._request.tell(
                f"grpclb: installed ingress-nginx in kind cluster {self.name!r}, where it stays"
            )

    def host_port(self, port: int) -> str:
        """Give the "host:port" of this machine that kind maps to a *port* of the node.

        :raises ClusterUnavailableError: if there is none
        """
        assert self._engine is not None, "start() comes first"
        try:
            told = self._engine.run("port", self._node, f"{port}/tcp")
        except CommandError as error:
            raise ClusterUnavailableError(
                _NAME,
                reason=f"port {port} of {self.name!r} is not mapped to this machine: {error}",
                advice="delete the cluster, so that it is created with the mapping",
            ) from error
        host, _, mapped = told.splitlines()[0].rpartition(":")
        if host in _ANY_ADDRESS:
            host = self._remote or _ANY_ADDRESS[host]
        return f"{host}:{mapped}"

    def deletion_command(self, namespace: str) -> str:
        """Return the command that deletes the cluster, and with it all that was kept in it."""
        del namespace
        return self._deletion()

    # --- making and deleting

    def _make(self, claim: Callable[[], None], timeout_s: float) -> None:
        """Create the cluster and load its images.

        :param claim: says that it is this run's own
        """
        if self.name not in self._clusters():
            claim()
            self._create(timeout_s)
        else:
            # Also mends what KindCluster stumbles over: a kubeconfig of its own that is empty.
            self._run("export", "kubeconfig", self._named, self._kubeconfig_flag)
        if self._remote:
            lead_to(self.kubeconfig, self.context, self._remote)
        self.kubeconfig.chmod(0o600)
        self._load()

    def _create(self, timeout_s: float) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with tempfile.TemporaryDirectory(prefix="pytest-grpclb-kind-") as folder:
                    config = Path(folder) / "kind.yaml"
                    config.write_text(yaml.safe_dump(self._config()))
                    assert self._program is not None, "start() comes first"
                    created = run(
                        self._program,
                        *("create", "cluster", self._named, self._kubeconfig_flag),
                        *(f"--config={config}", f"--wait={_READY_S}s", "--retain"),
                        timeout_s=timeout_s,
                    )
                    check_ready(created, _READY_S)
            except CommandError as error:
                self._save_logs()
                self._delete(self.name)
                collided = any(text in error.output for text in _PORT_TAKEN)
                if not collided or attempt == _ATTEMPTS:
                    raise
            except BaseException:  # Ctrl-C: what there is of it goes
                self._delete(self.name)
                raise
            else:
                return

    def _load(self) -> None:
        assert self._engine is not None
        bring_images(
            self._engine,
            self.programs_image,
            self._request,
            load=lambda archive: self._run("load", "image-archive", archive, self._named),
        )

    def _end(self) -> None:
        self.kind = None
        self._delete(self.name)
        self.kubeconfig.unlink(missing_ok=True)

    def _delete(self, name: str) -> None:
        assert self._folder is not None
        kubeconfig = self._folder / f"{name}.kubeconfig"
        self._run("delete", "cluster", f"--name={name}", f"--kubeconfig={kubeconfig}")
        for left in (kubeconfig, self._lock_of_ingress(name)):
            left.unlink(missing_ok=True)

    def _save_logs(self) -> None:
        """Save what its nodes have written, which may well fail, too; once does for all workers."""
        if self._request.artifacts is None:
            return
        folder = self._request.artifacts / f"kind-{self.name}"
        if not folder.exists():
            with contextlib.suppress(CommandError):
                self._run("export", "logs", str(folder.absolute()), self._named)

    # --- kind

    @property
    def _named(self) -> str:
        return f"--name={self.name}"

    @property
    def _node(self) -> str:
        """The first control plane: a container, and a node's name, whose ports are mapped."""
        return f"{self.name}-control-plane"

    def _lock_of_ingress(self, name: str) -> Path:
        assert self._folder is not None, "start() comes first"
        return self._folder / f"{name}.ingress"

    @property
    def _kubeconfig_flag(self) -> str:
        return f"--kubeconfig={self.kubeconfig}"

    def _run(self, *arguments: str) -> str:
        assert self._program is not None, "start() comes first"
        return run(self._program, *arguments).stdout

    def _clusters(self) -> list[str]:
        return self._run("get", "clusters").split()

    def _deletion(self) -> str:
        variable = "KIND_EXPERIMENTAL_PROVIDER"
        before = f"{variable}={os.environ[variable]} " if os.environ.get(variable) else ""
        return before + shlex.join([str(self._program), "delete", "cluster", self._named])

    def _config(self) -> dict[str, Any]:
        asked = self._request
        return read(asked.kind_config, image=asked.kind_image, remote=self._remote)

    def _kind_cluster(self) -> Any:
        from pytest_kind import KindCluster

        with contextlib.chdir(self._request.directory):  # it makes .pytest-kind where it is made
            return KindCluster(self.name, kubeconfig=self.kubeconfig, kind_path=self._program)


def _has_pytest_kind() -> bool:
    from importlib.util import find_spec

    return find_spec("pytest_kind") is not None
