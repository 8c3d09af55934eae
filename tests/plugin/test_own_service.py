"""Whole runs of repositories that bring a service of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHOP = Path(__file__).parents[2] / "example_tests" / "shop"
EVEN = "tests/test_balancing.py::test_items_are_served_evenly"
SCALED = "tests/test_balancing.py::test_new_pods_get_their_share"
OPEN = "python -m shop.server --listen {ip}:{port}"


def run(*arguments: str, at: Path = SHOP) -> subprocess.CompletedProcess[str]:
    """Run pytest as somebody would who stands in a repository."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=at,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


def test_the_shop_is_tested_under_every_strategy_that_spreads_calls() -> None:
    strategies = "headless,lookaside,envoy-sidecar,ingress-nginx"
    done = run(f"--grpclb-strategy={strategies}", "--grpclb-require")
    assert "8 passed" in done.stdout, done.stdout


def test_a_variant_without_reflection_is_tested_just_so() -> None:
    done = run(
        EVEN,
        f"--grpclb-command={OPEN} --no-reflection",
        "--grpclb-protos=shop/v1/catalog.proto",
        "--grpclb-proto-path=protos",
    )
    assert "1 passed" in done.stdout, done.stdout


# --- charts


def test_a_chart_s_own_error_is_helm_s(tmp_path: Path) -> None:
    (tmp_path / "chart" / "templates").mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (tmp_path / "chart" / "templates" / "bad.yaml").write_text("kind: {{ .Values.x | nofunction }}")
    done = run(EVEN, "--override-ini=grpclb_command=", f"--grpclb-chart={tmp_path / 'chart'}")
    assert f"chart '{tmp_path / 'chart'}' does not render: " in done.stdout
    assert 'function "nofunction" not defined' in done.stdout


# --- another language


@pytest.fixture(scope="module")
def go_greeter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server of grpc-go's examples: it listens on all addresses, and has no health service."""
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        pytest.skip("there is no Go toolchain here")
    folder = tmp_path_factory.mktemp("go")
    package = "google.golang.org/grpc/examples/helloworld/greeter_server"
    (folder / "go.mod").write_text("module example.org/shop\n\ngo 1.21\n")
    # Not `go install`: the examples' module replaces others, which that refuses.
    for arguments in (["get", f"{package}@latest"], ["build", "-o", "greeter", package]):
        done = subprocess.run(
            [go, *arguments], check=False, capture_output=True, text=True, cwd=folder
        )
        if done.returncode != 0:
            pytest.skip(f"go {arguments[0]} does not get the examples: {done.stderr[-300:]}")
    return folder / "greeter"


def test_a_service_in_go_is_tested_as_it_is(go_greeter: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\n"
        f"grpclb_command = '{go_greeter} -port {{port}}'\n"
        "grpclb_probe = 'tcp'\n"
        "grpclb_strategy = 'headless,envoy-sidecar'\n"
        "grpclb_method = 'helloworld.Greeter/SayHello'\n"
    )
    (tmp_path / "test_balancing.py").write_text(
        "import pytest\n"
        "from pytest_grpclb import assert_even_spread, assert_rebalanced\n\n"
        "def test_even(grpclb):\n"
        "    assert_even_spread(grpclb.drive())\n\n"
        "@pytest.mark.grpclb_only('envoy-sidecar')\n"  # its connections have no max age
        "def test_scaled(grpclb):\n"
        "    with grpclb.traffic(rate=500) as traffic:\n"
        "        grpclb.scale(5)\n"
        "        assert_rebalanced(traffic)\n"
    )
    done = run(at=tmp_path)
    assert "3 passed" in done.stdout, done.stdout
