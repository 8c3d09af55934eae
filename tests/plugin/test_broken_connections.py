"""The control connection of a run breaks off: it is made again, or its end told with what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster.faulty_api import Fault, FaultyApi

from .real_clusters import DEADLINE_S, PASSES, existing_options, run, until

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

COUNTS_FOR_LONG = """
from pathlib import Path

def test_long(grpclb):
    with grpclb.traffic(rate=200) as traffic:
        traffic.wait(60)  # until calls were told
        Path("reached").touch()
        while True:
            traffic.wait(60)

def test_next(grpclb):
    grpclb.drive(calls=5)
"""


# A hundred bytes more, and the beginning of the count may be among them.
@pytest.mark.parametrize("length", [0, 10, 200, 230])
def test_a_connection_that_breaks_before_counting_begins_is_made_again(
    pytester: pytest.Pytester, existing: EmbeddedCluster, length: int
) -> None:
    """The driver tells nothing before that: these are bytes of the websocket and of HTTP/2."""
    cut: list[str] = []

    def plan(_verb: str, path: str) -> Fault | None:
        if "portforward" not in path:
            return None
        cut.append(path)  # the first is a try, which carries nothing
        return Fault(cut_after_bytes=length) if len(cut) == 2 else None

    pytester.makepyfile(test_it=PASSES)
    with FaultyApi(existing.kubeconfig, pytester.path, plan) as proxy:
        options = [*existing_options(existing), f"--grpclb-kubeconfig={proxy.leads_here}"]
        run(pytester, *options).assert_outcomes(passed=1)
    assert len(cut) == 3


def test_a_connection_that_breaks_amid_a_run_is_told_and_the_next_test_runs(
    pytester: pytest.Pytester, existing: EmbeddedCluster
) -> None:
    pytester.makepyfile(test_it=COUNTS_FOR_LONG)
    with FaultyApi(existing.kubeconfig, pytester.path) as proxy:
        command = [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *existing_options(existing),
            f"--grpclb-kubeconfig={proxy.leads_here}",
        ]
        with (
            (pytester.path / "output").open("wb") as output,
            subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            ) as process,
        ):
            try:
                until((pytester.path / "reached").exists, "the moment to cut")
                assert proxy.cut() == 1
                process.wait(DEADLINE_S)
            finally:
                process.kill()
    told = (pytester.path / "output").read_text()
    assert "1 failed, 1 passed" in told
    found = re.search(r"DriverError: driver at (\S+): the run ended early: UNAVAILABLE: (.*)", told)
    assert found, told
    pod = re.search(r"its pod '(grpclb-driver-\S+)' runs on", found[2])
    assert pod, found[2]
    assert found[2].partition("; ")[2] == (
        f"its pod {pod[1]!r} runs on, so the connection to it broke off, which on real clusters is "
        "a port-forward through the Kubernetes API; run the test again, and where that recurs, "
        "look for restarts of the API or of the pod's node, and for what stands before the API and "
        "ends connections of a certain age (load balancer, proxy)"
    )


UNKNOWN_NAME = """
from pytest_grpclb.clusters.kube import SERVICES

def test_it(grpclb, grpclb_cluster, grpclb_namespace):
    grpclb_cluster.api.delete(SERVICES, grpclb_namespace, "grpclb-headless")
    grpclb.drive(calls=5)
"""


def test_a_name_that_the_clusters_dns_does_not_know_is_told(pytester: pytest.Pytester) -> None:
    """As where the cluster's domain is another: every name is unknown then."""
    pytester.makepyfile(test_it=UNKNOWN_NAME)
    result = run(pytester, "--grpclb-replicas=1")
    result.assert_outcomes(failed=1)
    told = re.search(
        r"DriverError: no call to (\S+) was answered during warm-up; the last one failed with "
        r"UNAVAILABLE: (.*)",
        result.stdout.str(),
    )
    assert told, result.stdout.str()
    assert re.fullmatch(r"dns:///grpclb-headless\.grpclb-.*\.svc\.cluster\.local\.:50051", told[1])
    assert told[2].endswith(
        "; the cluster's DNS does not know that name: its Service has no ready pods, or the "
        "cluster's domain is not cluster.local, the default, below which names are dialled"
    )
