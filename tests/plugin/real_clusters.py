"""What tests of whole runs on clusters that outlive them have in common; see also conftest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

DEADLINE_S = 60.0
PASSES = "def test_it(grpclb): grpclb.drive(calls=5)\n"
FAILS = "def test_it(grpclb): assert grpclb.drive(calls=5).failures\n"


def existing_options(existing: EmbeddedCluster) -> list[str]:
    return [
        "--grpclb-cluster=kubeconfig",
        f"--grpclb-kubeconfig={existing.kubeconfig}",
        f"--grpclb-context={existing.context}",
        f"--grpclb-image={existing.programs_image}",
        "--grpclb-replicas=1",
    ]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def summary(result: pytest.RunResult) -> list[str]:
    return [line for line in result.stdout.lines if line.startswith("grpclb: ") and "kept" in line]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"timed out: {what}"
        time.sleep(0.01)  # the pause between two looks
