"""The embedded cluster as the test process sees it: a process to start, wait for and end."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_grpclb._version import __version__
from pytest_grpclb.clusters.embedded.network.network import BLOCKS
from pytest_grpclb.clusters.embedded.node.images import OWN_IMAGE
from pytest_grpclb.errors import ClusterStartError, ClusterUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["EmbeddedCluster"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_NAME = "embedded"
_NEEDED = ("grpc_channelz", "grpc_health", "grpc_reflection", "h11", "trustme")
"""What the extra ``embedded`` brings, as modules."""
_ENDING_S = 5.0
"""Ending takes some 50 ms; after this long something hangs and is killed."""
_LOG_LINES = 20


class EmbeddedCluster:
    """A small Kubernetes on loopback; it ends with this process at the latest, however that ends.

    :param directory: all its files go below it; made, for this user only, if it is not there
    :param images: command lines that images stand for
    :param blocks: which 127.x.0.0/16 it may take
    :param commands_directory: where those command lines run; by default the current directory
    """

    programs_image = f"{OWN_IMAGE}:{__version__}"
    dns_cache_s = 0.0
    """Its DNS reads the store at each query."""
    kill_s = 0.0
    """Processes are sent SIGKILL."""
    ingress_workers = 1
    ingress_push_s = 1.0
    """Its nginx looks once a second, as ingress-nginx's workers do."""

    def __init__(
        self,
        directory: Path,
        *,
        images: Mapping[str, Sequence[str]] = {},
        blocks: Sequence[int] = BLOCKS,
        commands_directory: Path | None = None,
    ) -> None:
        self._directory, self._images, self._blocks = directory, images, blocks
        self._commands_directory = commands_directory or Path.cwd()
        self.context = ""
        self.dns_address = ""
        """Its DNS, "ip:port", which answers this process as well."""
        self._ingress: dict[str, tuple[str, int]] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def kubeconfig(self) -> Path:
        """Return the file that leads to the API; only this user may read it."""
        return self._directory / "kubeconfig"

    @property
    def log(self) -> Path:
        """Return the log of the cluster itself."""
        return self._directory / "cluster.log"

    def start(self) -> None:
        """Begin to start the cluster and return at once.

        :raises ClusterUnavailableError: if this is not Linux, or the extra is not installed
        """
        _check_machine()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name != "PYTHONWARNINGS"  # a warning in a library must not end the cluster
        }
        with open(self.log, "wb", opener=_private) as log:
            # -P: the directory that tests run in must not provide this process with modules.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pytest_grpclb.clusters.embedded.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C goes to pytest alone, which ends this in order
            )
        request = {
            "directory": str(self._directory.absolute()),
            "images": {name: list(command) for name, command in self._images.items()},
            "blocks": list(self._blocks),
            "commands_directory": str(self._commands_directory.absolute()),
        }
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already: `wait` will tell why
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def wait(self, timeout_s: float = 30.0) -> None:
        """Return when the API answers.

        :raises ClusterStartError: if it does not within *timeout_s*, has ended, or says why not
        """
        if self._process is None:
            raise self._failure("it was not started; call start() first")
        assert self._process.stdout is not None
        line = _read_until(self._process.stdout, b"\n", timeout_s)
        if line is None:
            raise self._failure(f"it was not ready after {timeout_s:g} s")
        if not line:
            code = self._process.wait()
            raise self._failure(f"it ended early with exit code {code}")
        told = json.loads(line)
        if "failed" in told:
            raise ClusterStartError(_NAME, reason=told["failed"])
        self.context = told["context"]
        self._ingress = told["ingress"]
        self.dns_address = told["dns"]

    def reach(
        self, namespace: str, pod: str, address: str, port: int
    ) -> AbstractContextManager[str]:
        """Give the "host:port" that leads to a pod's port: its own, for it is on loopback."""
        del namespace, pod
        return nullcontext(f"{address}:{port}")

    def check_image(self, image: str) -> None:
        """Do nothing unless *image* is Envoy's and there is none on this machine.

        :raises ClusterUnavailableError: in that case
        """
        from pytest_grpclb.clusters.embedded.node.envoy import ADVICE, find_envoy
        from pytest_grpclb.clusters.embedded.node.images import Images

        if Images(self._images).stands_for_envoy(image) and find_envoy() is None:
            raise ClusterUnavailableError(
                _NAME, reason=f"the image {image!r} needs Envoy, which is not here", advice=ADVICE
            )

    def ingress_files(self) -> Mapping[str, str]:
        """Return nginx's configuration and logs; keys are not among them."""
        directory = self._directory / "ingress"
        return {
            name: (directory / name).read_text(errors="replace")
            for name in ("nginx.conf", "nginx.log", "access.log")
            if (directory / name).is_file()
        }

    def ingress_address(self, *, https: bool) -> str:
        """Give the "host:port" at which nginx serves every host of an Ingress of class nginx.

        :raises ClusterUnavailableError: if there is no nginx on this machine
        """
        from pytest_grpclb.clusters.embedded.ingress.binary import ADVICE, find_nginx

        if find_nginx() is None:
            raise ClusterUnavailableError(
                _NAME, reason="an ingress needs nginx, which is not here", advice=ADVICE
            )
        address, port = self._ingress["https" if https else "http"]
        return f"{address}:{port}"

    def deletion_command(self, namespace: str) -> str:
        """Return none: the cluster ends with the run."""
        del namespace
        return ""

    def close(self) -> None:
        """End the cluster, with every process that it started, and return when all are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.terminate()  # a fork of this process may hold the other end of its input open
        # Its output is open in every process of the cluster but its pods, which end before those.
        with process.stdout:
            if _read_until(process.stdout, None, _ENDING_S) is None:
                process.kill()
                _read_until(process.stdout, None, _ENDING_S)
        process.wait()

    def _failure(self, reason: str) -> ClusterStartError:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return ClusterStartError(_NAME, reason=reason, log="\n".join(lines))


def _check_machine() -> None:
    if sys.platform != "linux":
        raise ClusterUnavailableError(
            _NAME,
            reason=f"it needs Linux, this is {sys.platform!r}",
            advice="use --grpclb-cluster=kind",
        )
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ClusterUnavailableError(
            _NAME,
            reason=f"modules are missing: {', '.join(missing)}",
            advice="install them with: pip install 'pytest-grpclb[embedded]'",
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read_until(stream: IO[bytes], end: bytes | None, timeout_s: float) -> bytes | None:
    """Read up to *end*, or to the end of the stream; None: that did not come in time."""
    deadline_s = time.monotonic() + timeout_s
    read = b""
    descriptor = stream.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            return None
        received = os.read(descriptor, 1 << 16)
        read += received
        if not received or (end is not None and read.endswith(end)):
            return read
