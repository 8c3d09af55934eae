"""However a cluster ends, nothing of it is left: proved with real processes, pods and daemons."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.api.kube import PODS, KubeApi
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.embedded.network.network import claim_block
from pytest_grpclb.errors import NoFreeBlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Blocks that clusters do not take by default, so that each test has one to itself.
BLOCKS = range(230, 246)

PARENT = """
import json, sys, time
from pathlib import Path
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

cluster = EmbeddedCluster(
    Path(sys.argv[1]), images={"python": [sys.executable]}, blocks=json.loads(sys.argv[2])
)
cluster.start()
cluster.wait()
print(cluster.context, flush=True)
try:
    time.sleep(1000)
finally:
    cluster.close()
"""

# Leaves its process group and its parent, as daemons do.
DAEMON = (
    "import os, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        time.sleep(1000)\n"
    "    os._exit(0)\n"
    "time.sleep(1000)\n"
)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def processes_of(directory: Path) -> dict[int, str]:
    """Return the living processes that have something open, or are, below a cluster's directory.

    The cluster and its zygote write their log there, every pod its own.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            opened = [str(link.readlink()) for link in (entry / "fd").iterdir()]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended, or is another user's
        if any(path.startswith(f"{directory}/") for path in opened):
            found[int(entry.name)] = command
    return found


def only(found: dict[int, str], words: str) -> int:
    """Return the one process whose command line has *words*; the prober looks like its zygote."""
    return min(pid for pid, command in found.items() if words in command)


def pod(name: str, image: str, args: list[str]) -> dict[str, object]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1000,
            "containers": [{"name": "main", "image": image, "args": args}],
        },
    }


class Run:
    """A process that has a cluster, with a greeter and a daemon in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "cluster"
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(self.directory), json.dumps(list(BLOCKS))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C goes to the group: see below
        )
        assert self.parent.stdout is not None
        context = self.parent.stdout.readline().decode().strip()
        api = KubeApi(self.directory / "kubeconfig", context)
        for made in (
            pod("greeter", "pytest-grpclb", ["greeter", "--port=50051"]),
            pod("daemon", "python", ["-c", DAEMON]),
        ):
            api.request("POST", PODS.path("default"), body=made)
        # Cluster, zygote, prober, greeter; the daemon, its parent, and what that one became.
        wait_until(lambda: len(self.processes()) >= 6, "the pods did not start")
        api.close()

    def processes(self) -> dict[int, str]:
        return processes_of(self.directory)

    def assert_nothing_left(self) -> None:
        wait_until(lambda: not self.processes(), f"left behind: {self.processes()}")
        # A process may end that has nothing open there, and yet holds the claim.
        wait_until(self._is_free, "the block is still held")

    def _is_free(self) -> bool:
        try:
            claim_block([self.block]).release()
        except NoFreeBlockError:
            return False
        return True

    @property
    def block(self) -> int:
        kubeconfig = json.loads((self.directory / "kubeconfig").read_text())
        return int(kubeconfig["current-context"].rpartition(".")[2])

    def end(self) -> None:
        self.parent.kill()
        self.parent.wait()
        assert self.parent.stdout is not None
        self.parent.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_test_process_is_ended(run: Run, number: signal.Signals) -> None:
    os.killpg(run.parent.pid, number)
    run.parent.wait()
    run.assert_nothing_left()


def test_nothing_is_left_when_the_cluster_process_is_killed(run: Run) -> None:
    os.kill(only(run.processes(), "embedded.process"), signal.SIGKILL)
    run.assert_nothing_left()


def test_nothing_is_left_when_the_cluster_process_is_asked_to_end(run: Run) -> None:
    os.kill(only(run.processes(), "embedded.process"), signal.SIGTERM)
    run.assert_nothing_left()


def test_nothing_is_left_when_the_zygote_is_killed(run: Run) -> None:
    os.kill(only(run.processes(), "node.zygote"), signal.SIGKILL)
    run.assert_nothing_left()
    assert "the zygote has ended" in (run.directory / "cluster.log").read_text()


def test_closing_waits_until_everything_is_gone(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "cluster", blocks=BLOCKS)
    cluster.start()
    try:
        cluster.wait()
        api = KubeApi(cluster.kubeconfig, cluster.context)
        made = pod("greeter", "pytest-grpclb", ["greeter", "--port=50051"])
        api.request("POST", PODS.path("default"), body=made)
        wait_until(lambda: len(processes_of(tmp_path)) >= 4, "the pod did not start")
        api.close()
    finally:
        cluster.close()
    assert processes_of(tmp_path) == {}


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "cluster", blocks=BLOCKS)
    cluster.start()
    try:
        cluster.wait()
        modes = {
            path.name: path.stat().st_mode & 0o777
            for path in (tmp_path / "cluster", *(tmp_path / "cluster").iterdir())
        }
        log = cluster.log.read_text()
        token = json.loads(cluster.kubeconfig.read_text())["users"][0]["user"]["token"]
    finally:
        cluster.close()
    assert modes == {"cluster": 0o700, "kubeconfig": 0o600, "cluster.log": 0o600, "pods": 0o700}
    assert token not in log


def test_clusters_run_side_by_side(tmp_path: Path) -> None:
    clusters = [EmbeddedCluster(tmp_path / name, blocks=BLOCKS) for name in ("a", "b")]
    try:
        for cluster in clusters:
            cluster.start()
        for cluster in clusters:
            cluster.wait()
        assert len({cluster.context for cluster in clusters}) == 2
    finally:
        for cluster in clusters:
            cluster.close()
