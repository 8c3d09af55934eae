"""From a scale request to 100 ready pods on the embedded cluster.

Budget: 3 s on two cores.

    python benchmarks/replicas.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.clusters import ClusterRequest, find
from pytest_grpclb.clusters.api.kube import KubeApi
from pytest_grpclb.deployment import Deployment, temporary_namespace
from pytest_grpclb.samples import greeter_values
from pytest_grpclb.settings import Settings
from pytest_grpclb.workloads import service_of

REPLICAS = 100
RUNS = 5
BUDGET_S = 3.0


def main() -> None:
    """Scale from 0 to 100 and back several times, and print the median and its ratio."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = find("embedded")(ClusterRequest(directory=Path(folder) / "cluster"))
        cluster.start()
        try:
            cluster.wait()
            api = KubeApi(cluster.kubeconfig, cluster.context)
            with temporary_namespace(api, "benchmark", run="benchmark"):
                took_s = measure(api, cluster.programs_image)
        finally:
            cluster.close()
    median_s = statistics.median(took_s)
    print(
        f"{REPLICAS} replicas ready: median {median_s:.2f} s of {RUNS}, "
        f"from {min(took_s):.2f} to {max(took_s):.2f}"
    )
    print(f"ratio to the budget of {BUDGET_S:g} s: {median_s / BUDGET_S:.2f}")


def measure(api: KubeApi, image: str) -> list[float]:
    """Return how long each of several scale-ups took, in seconds."""
    values = greeter_values(Settings(replicas=1), image=image)
    manifests = render(
        charts_directory() / "greeter", values=values, release="greeter", namespace="benchmark"
    )
    api.apply(manifests, namespace="benchmark")
    service = service_of(manifests, namespace="benchmark", source="the greeter")
    deployment = Deployment(api, service, ready_timeout_s=60.0)
    took_s = []
    try:
        for _ in range(RUNS):
            deployment.scale(0)
            began_s = time.perf_counter()
            deployment.scale(REPLICAS)
            took_s.append(time.perf_counter() - began_s)
    finally:
        deployment.close()
    return took_s


if __name__ == "__main__":
    main()
