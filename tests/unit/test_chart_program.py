"""Rendering where Helm's library is not installed: by the helm program."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb import chart as chart_module
from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.errors import ChartError, HelmMissingError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart whose one object tells which version of Kubernetes it was rendered for."""
    directory = tmp_path / "demo"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 0.1.0\n")
    (directory / "templates" / "a.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\n"
        "metadata: {name: '{{ .Capabilities.KubeVersion.Version }}'}\n"
    )
    return directory


def rendered(chart: Path, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    manifests = render(chart, values=values or {}, release="rel", namespace="ns")
    return [dict(manifest) for manifest in manifests]


def refusal(chart: Path) -> str:
    with pytest.raises(ChartError) as caught:
        rendered(chart)
    prefix = f"chart {str(chart)!r} does not render: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "helm_python", None)
    monkeypatch.delenv("HELM", raising=False)


def stand_in(directory: Path, body: str) -> Path:
    """Write an executable that takes helm's place."""
    program = directory / "helm"
    program.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_the_program_is_given_an_argument_list_and_values_on_standard_input(
    chart: Path, tmp_path: Path, no_library: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told.json"
    program = stand_in(
        tmp_path, f"json.dump([sys.argv, sys.stdin.read()], open({str(told)!r}, 'w'))"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rendered(chart, {"a": [1, None, "$(x)"]}) == []
    arguments, values = json.loads(told.read_text())
    assert arguments == [
        *[str(program), "template", "rel", str(chart), "--namespace", "ns"],
        *["--kube-version", "1.36.0", "--values", "-"],
    ]
    assert json.loads(values) == {"a": [1, None, "$(x)"]}


RENDER_LIKE_HELM = """
import helm_python
_, _, release, chart, _, namespace, *_ = sys.argv
rendered = helm_python.Chart.load(chart).render(
    json.load(sys.stdin), name=release, namespace=namespace)
for template, text in rendered.items():
    for document in text.split("---\\n"):
        if document.strip() and not template.endswith("NOTES.txt"):
            print(f"---\\n# Source: {template}\\n{document}", end="")
"""


def values_of_every_chart() -> list[tuple[str, dict[str, Any]]]:
    backend = {"selector": {"app": "shop"}, "port": 8080}
    return [
        ("greeter", {"maxConnectionAge": {"seconds": 1.5}, "replicaCount": 1}),
        ("strategy", {"strategy": "headless", "backend": backend}),
        ("strategy", {"strategy": "clusterip", "backend": backend}),
    ]


@pytest.mark.parametrize(("name", "values"), values_of_every_chart())
def test_the_program_and_the_library_give_the_same(
    name: str, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_library = rendered(charts_directory() / name, values)
    monkeypatch.setitem(sys.modules, "helm_python", None)
    monkeypatch.setenv("HELM", str(stand_in(tmp_path, RENDER_LIKE_HELM)))
    assert rendered(charts_directory() / name, values) == by_library
    assert len(by_library) == 2


@pytest.mark.skipif(
    shutil.which(os.environ.get("HELM", "helm")) is None, reason="there is no helm program here"
)
@pytest.mark.parametrize(("name", "values"), values_of_every_chart())
def test_the_real_program_and_the_library_give_the_same(
    name: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_library = rendered(charts_directory() / name, values)
    monkeypatch.setitem(sys.modules, "helm_python", None)
    assert rendered(charts_directory() / name, values) == by_library


def test_both_tell_charts_the_same_version_of_kubernetes(chart: Path) -> None:
    [manifest] = rendered(chart)
    assert manifest["metadata"]["name"] == f"v{chart_module._KUBE_VERSION}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "sys.exit('WARNING: kubeconfig is group-readable.\\nError: execution error at "
            "(x.yaml:1:3): no luck\\n\\nUse --debug flag to render out invalid YAML')",
            "execution error at (x.yaml:1:3): no luck",
        ),
        ("sys.exit('killed by somebody')", "killed by somebody"),
        ("sys.exit(9)", "{program} ended with exit code 9"),
    ],
)
def test_a_program_that_fails_tells_its_message(
    body: str,
    message: str,
    chart: Path,
    tmp_path: Path,
    no_library: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = stand_in(tmp_path, body)
    monkeypatch.setenv("HELM", str(program))
    assert refusal(chart) == message.format(program=program)


def test_a_program_that_does_not_start_is_told(
    chart: Path, tmp_path: Path, no_library: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path, "")
    program.write_text("#!/nowhere/interpreter\n")
    monkeypatch.setenv("HELM", str(program))
    assert refusal(chart) == (
        f"{program} does not start: [Errno 2] No such file or directory: {str(program)!r}"
    )


def test_a_program_that_does_not_end_is_given_up(
    chart: Path, tmp_path: Path, no_library: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path, "import signal\nwhile True: signal.pause()")
    monkeypatch.setenv("HELM", str(program))
    monkeypatch.setattr(chart_module, "_PROGRAM_TIMEOUT_S", 0.25)
    assert refusal(chart) == f"{program} did not end within 0.25 s"


@pytest.mark.parametrize("named", [None, "/nowhere/helm"])
def test_where_nothing_renders_the_message_says_what_to_install(
    named: str | None,
    chart: Path,
    tmp_path: Path,
    no_library: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if named:
        monkeypatch.setenv("HELM", named)
    with pytest.raises(HelmMissingError) as caught:
        rendered(chart)
    assert str(caught.value) == (
        f"chart {str(chart)!r} does not render: neither Helm's library (helm_python) nor "
        f"the program {named or 'helm'!r} is here. "
        "Install it with: pip install 'pytest-grpclb[embedded]'"
    )
    assert caught.value.program == (named or "helm")
