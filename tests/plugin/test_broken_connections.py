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

from pytest_grpclb import assert_even_spread

def test_long(grpclb):
    with grpclb.traffic(rate=200) as traffic:
        traffic.wait(60)  # until calls were told
        before = len(traffic.snapshot().calls)
        Path("reached").touch()
        while not Path("cut").exists():
            traffic.wait(60)
        while len(traffic.snapshot().calls) < before + 1000:
            traffic.wait(60)
    calls = traffic.stop().calls
    assert sorted(calls.sequence) == list(range(len(calls)))
    assert not calls.failed()
    assert_even_spread(traffic.stop())
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


def test_a_run_whose_connection_breaks_is_found_again_and_no_call_is_missing(
    pytester: pytest.Pytester, existing: EmbeddedCluster
) -> None:
    pytester.makepyfile(test_it=COUNTS_FOR_LONG)
    with FaultyApi(existing.kubeconfig, pytester.path) as proxy:
        command = [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *existing_options(existing),
            f"--grpclb-kubeconfig={proxy.leads_here}",
            "--grpclb-replicas=2",
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
                (pytester.path / "cut").touch()
                process.wait(DEADLINE_S)
            finally:
                process.kill()
    assert "1 passed" in (pytester.path / "output").read_text()


DELETES_THE_DRIVER = """
from pytest_grpclb.clusters.api.kube import PODS

def test_long(grpclb, grpclb_cluster, grpclb_namespace):
    with grpclb.traffic(rate=200) as traffic:
        traffic.wait(60)  # until calls were told
        pods = grpclb_cluster.api.list(PODS, grpclb_namespace)
        for name in [pod["metadata"]["name"] for pod in pods]:
            if name.startswith("grpclb-driver-"):
                grpclb_cluster.api.delete(PODS, grpclb_namespace, name, grace_s=0)
        while True:
            traffic.wait(60)

def test_next(grpclb):
    grpclb.drive(calls=5)
"""


def test_a_driver_that_is_gone_is_told_and_the_next_test_runs(
    pytester: pytest.Pytester, existing: EmbeddedCluster
) -> None:
    pytester.makepyfile(test_it=DELETES_THE_DRIVER)
    result = run(pytester, *existing_options(existing))
    result.assert_outcomes(failed=1, passed=1)
    told = re.search(
        r"DriverError: driver at \S+: the run ended early: UNAVAILABLE: [^;]*; (.*)",
        result.stdout.str(),
    )
    assert told, result.stdout.str()
    pod = re.match(r"its pod '(grpclb-driver-\S+)' was", told[1])
    assert pod, told[1]
    assert told[1] == (
        f"its pod {pod[1]!r} was deleted or evicted, or its node was lost; see the events of its "
        "namespace (--grpclb-artifacts saves them), and run the test again"
    )


UNKNOWN_NAME = """
from pytest_grpclb.clusters.api.kube import SERVICES

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
        "cluster's domain, below which names are dialled, is not what --grpclb-cluster-domain says"
    )
