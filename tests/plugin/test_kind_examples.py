"""The example tests on kind, by stand-ins of kind and docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.api.kube import NAMESPACES, PODS, KubeApi, Resource
from pytest_grpclb.strategies import STRATEGIES

from .real_clusters import run, until

if TYPE_CHECKING:
    import pytest

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
    from tests.cluster.stand_ins import StandIns

CLASSES = Resource("networking.k8s.io/v1", "ingressclasses", namespaced=False)
EXAMPLES = Path(__file__).parents[2] / "example_tests"
# Half a minute each: pods serve on, and tests wait, until DNS may have forgotten what was. One
# restart, and one of whatever happens, stand for the others.
SLOW = (
    "rolling_restart and not though_connections_stay",
    "stay_idle and not behind_a_cluster_ip",
    "streams_that_end or long_streams",
    "traffic_follows_whatever_happens",
)


def test_the_examples_run_on_kind_as_they_do_on_the_embedded_cluster(
    pytester: pytest.Pytester, existing: EmbeddedCluster, stand_ins: StandIns
) -> None:
    """With an ingress controller installed by the run, for kind's clusters have none."""
    api = KubeApi(existing.kubeconfig, existing.context)
    for each in api.list(CLASSES):
        api.delete(CLASSES, "", each["metadata"]["name"])
    files = sorted(EXAMPLES.glob("test_*.py"))
    assert len(files) >= 10
    chosen = " and ".join(f"not ({each})" for each in SLOW)
    options = ["--grpclb-cluster=kind", "--grpclb-strategy=all", "-n2", f"-k={chosen}", "-rA"]
    result = run(pytester, *map(str, files), *options)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed"}, result.stdout.str()
    passed = re.findall(r"^PASSED \S*?(test_\w+\.py)::", result.stdout.str(), re.MULTILINE)
    assert sorted(set(passed)) == [file.name for file in files]
    assert {each for each in STRATEGIES if f"[{each}]" in result.stdout.str()} == set(STRATEGIES)
    assert stand_ins.get()["clusters"] == {}
    [pod] = api.list(PODS, "ingress-nginx")
    assert pod["status"]["phase"] == "Running"
    api.delete(NAMESPACES, "", "ingress-nginx")
    until(lambda: "ingress-nginx" not in names(api), "the controller's namespace is gone")
    api.close()


def names(api: KubeApi) -> set[str]:
    return {each["metadata"]["name"] for each in api.list(NAMESPACES)}
