"""What a user sees when something is wrong: each message once in full, from the outside."""

from __future__ import annotations

import sys
import textwrap
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {app: shop}
  template:
    metadata:
      labels: {app: shop}
    spec:
      containers:
        - name: server
          image: shop/server:1
          ports: [{name: grpc, containerPort: 50051}]
          readinessProbe:
            grpc: {port: 50051}
            periodSeconds: 1
"""

CONFTEST = """
from pathlib import Path

import pytest
from pytest_grpclb import ServiceSource

@pytest.fixture
def grpclb_service(grpclb_settings):
    return ServiceSource(
        chart=Path(__file__).parent / "shop",
        release="shop",
        values={"replicas": grpclb_settings.replicas},
    )
"""

TEST = """
def test_shop(grpclb):
    pass
"""


@pytest.fixture
def shop(pytester: pytest.Pytester) -> Path:
    """A repository with a chart of its own and a test that needs it running."""
    chart = pytester.mkdir("shop")
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (chart / "values.yaml").write_text("replicas: 1\n")
    (chart / "templates").mkdir()
    (chart / "templates" / "deployment.yaml").write_text(DEPLOYMENT)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shop=TEST)
    return chart


def run(pytester: pytest.Pytester, *arguments: str, image: str = "") -> pytest.RunResult:
    """Run pytest in a process of its own on one replica, *image* being the server's command."""
    lines = f"grpclb_embedded_images =\n    shop/server = {image}\n" if image else ""
    pytester.makeini(f"[pytest]\n{lines}")
    return pytester.runpytest_subprocess("--grpclb-replicas=1", "-p", "no:xdist", *arguments)


def errors(result: pytest.RunResult) -> str:
    """Return the lines of the exception's text: pytest marks all of them, or the first one only."""
    lines: list[str] = []
    inside = False
    for line in result.stdout.lines:
        marked = line.startswith("E  ")
        inside = marked or (inside and line.startswith("    "))
        if inside:
            lines.append(line[marked:].strip())
    return "\n".join(lines)


def test_a_command_that_exits_at_once_is_shown_with_its_exit_code_and_last_words(
    pytester: pytest.Pytester, shop: Path
) -> None:
    script = pytester.path / "server.py"
    script.write_text("import sys\nprint('no SHOP_DB in the environment')\nsys.exit(3)\n")
    result = run(pytester, "--grpclb-ready-timeout=2", image=f"{sys.executable} {script}")
    shown = errors(result)
    assert (
        "deployment 'shop': 0 of 1 replicas ready after 2 s; the process of the container "
        "'server' ends by itself (exit code 3): its last words are below"
    ) in shown
    assert "no SHOP_DB in the environment" in shown
    result.assert_outcomes(errors=1)


def test_a_command_that_never_listens_is_shown_with_its_probe(
    pytester: pytest.Pytester, shop: Path
) -> None:
    script = pytester.path / "server.py"
    script.write_text("import signal\nprint('waiting for a lock', flush=True)\nsignal.pause()\n")
    result = run(pytester, "--grpclb-ready-timeout=2", image=f"{sys.executable} {script}")
    shown = errors(result)
    assert "container server: running, not ready" in shown
    assert "Unhealthy: Readiness probe failed: " in shown
    assert "waiting for a lock" in shown
    result.assert_outcomes(errors=1)


def test_a_command_that_does_not_exist_is_named(pytester: pytest.Pytester, shop: Path) -> None:
    result = run(pytester, "--grpclb-ready-timeout=2", image="/no/such/server --port {port}")
    assert "/no/such/server" in errors(result)
    result.assert_outcomes(errors=1)


def test_an_image_that_nothing_runs_names_the_setting(
    pytester: pytest.Pytester, shop: Path
) -> None:
    result = run(pytester, "--grpclb-ready-timeout=2")
    shown = errors(result)
    assert "shop/server:1" in shown
    assert "grpclb_embedded_images" in shown
    result.assert_outcomes(errors=1)


def test_a_chart_that_does_not_render_is_an_error_in_helms_own_words(
    pytester: pytest.Pytester, shop: Path
) -> None:
    (shop / "templates" / "deployment.yaml").write_text("{{ .Values.replicas | nosuchfunction }}")
    shown = errors(run(pytester))
    assert f"ChartError: chart '{shop}' does not render: " in shown
    assert 'function "nosuchfunction" not defined' in shown


def test_a_chart_with_two_deployments_says_so(pytester: pytest.Pytester, shop: Path) -> None:
    second = DEPLOYMENT.replace("name: shop\nspec", "name: shop-canary\nspec")
    (shop / "templates" / "canary.yaml").write_text(second)
    assert (
        f"chart '{shop}': one workload is the service under test, it has 2: "
        "Deployment/shop-canary, Deployment/shop; say which with --grpclb-workload=NAME"
    ) in errors(run(pytester))


def test_a_chart_without_a_grpc_port_says_which_ports_it_has(
    pytester: pytest.Pytester, shop: Path
) -> None:
    ports = "[{name: web, containerPort: 80}, {name: admin, containerPort: 81}]"
    (shop / "templates" / "deployment.yaml").write_text(
        DEPLOYMENT.replace("[{name: grpc, containerPort: 50051}]", ports)
    )
    assert (
        f"chart '{shop}': Deployment/shop needs one container port, or one named 'grpc'; it has: "
        "web:80, admin:81; say where its pods listen with --grpclb-service-port=N"
    ) in errors(run(pytester))


PINNED = """
from pytest_grpclb import assert_even_spread

def test_spread(grpclb):
    assert_even_spread(grpclb.drive())
"""


def test_a_skewed_spread_fails_with_its_diagnosis_summary_artifacts_and_junit_row(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_pinned=PINNED)
    result = pytester.runpytest_subprocess(
        "-p",
        "no:xdist",
        "--grpclb-strategy=clusterip",
        "--grpclb-artifacts=saved",
        "--junit-xml=junit.xml",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*likely cause: 1 connection carried 100 % of * calls: "
            "a ClusterIP balances connections, not calls",
            "E*what to do: use a headless Service with round_robin",
            "*= gRPC load balancing =*",
            "strategy * verdict * N * K * max/mean * pods * test",
            "clusterip * SKEWED * 3 * test_spread[[]clusterip[]]",
        ]
    )
    [saved] = (pytester.path / "saved").iterdir()
    assert "SKEWED" in (saved / "failure.txt").read_text()
    assert (saved / "pods.txt").read_text().count("pod greeter-") == 3
    assert all("listening on" in log.read_text() for log in saved.glob("greeter-*.log"))
    [row] = ET.parse(pytester.path / "junit.xml").getroot().iter("property")
    assert row.attrib["name"] == "grpclb_verdict"
    assert '"verdict": "SKEWED"' in row.attrib["value"]


def test_two_workers_have_a_cluster_each_and_one_summary(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_both=textwrap.dedent(
            """
            import pytest
            from pytest_grpclb import assert_even_spread

            @pytest.mark.parametrize("run", range(2))
            def test_spread(grpclb, run):
                assert_even_spread(grpclb.drive())
            """
        )
    )
    result = pytester.runpytest_subprocess("-n", "2")
    result.assert_outcomes(passed=2)
    rows = [line for line in result.stdout.lines if line.startswith("headless  EVEN")]
    assert len(rows) == 2
