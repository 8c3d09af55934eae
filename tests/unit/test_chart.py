"""Rendering: what comes out of a chart, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_grpclb import chart as chart_module
from pytest_grpclb import manifests as manifests_module
from pytest_grpclb.chart import HookNotRunWarning, charts_directory, render
from pytest_grpclb.errors import ChartError

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n"


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart without templates."""
    directory = tmp_path / "demo"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 0.1.0\n")
    return directory


def add(chart: Path, **templates: str) -> None:
    for name, text in templates.items():
        (chart / "templates" / f"{name}.yaml").write_text(text)


def rendered(chart: Path, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    manifests = render(chart, values=values or {}, release="rel", namespace="ns")
    return [dict(manifest) for manifest in manifests]


def names(manifests: list[dict[str, Any]]) -> list[str]:
    return [f"{each['kind']}/{each['metadata']['name']}" for each in manifests]


def refusal(chart: Path, values: dict[str, Any] | None = None) -> str:
    with pytest.raises(ChartError) as caught:
        rendered(chart, values)
    prefix = f"chart {str(chart)!r} does not render: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


# --- what is rendered


def test_values_release_and_namespace_reach_the_templates(chart: Path) -> None:
    (chart / "values.yaml").write_text("size: 1\ncolour: red\n")
    add(
        chart,
        a=CONFIG_MAP.format(name="{{ .Release.Name }}")
        + "  namespace: {{ .Release.Namespace }}\n"
        + 'data: {size: "{{ .Values.size }}", colour: "{{ .Values.colour }}"}\n',
    )
    assert rendered(chart, {"size": 2}) == [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "rel", "namespace": "ns"},
            "data": {"size": "2", "colour": "red"},
        }
    ]


def test_notes_partials_and_empty_documents_are_left_out(chart: Path) -> None:
    (chart / "templates" / "NOTES.txt").write_text("Thank you.\n")
    add(
        chart,
        _partial='{{- define "x" }}{{ end }}\nplain text\n',
        a="---\n# nothing but a comment\n---\n" + CONFIG_MAP.format(name="a") + "---\n",
        b="{{- if false }}\nkind: Never\n{{- end }}\n",
    )
    assert names(rendered(chart)) == ["ConfigMap/a"]


def test_objects_come_in_the_order_in_which_helm_installs_kinds(chart: Path) -> None:
    kinds = ["Zebra", "Ingress", "Aardvark", "Deployment", "Service", "RoleBinding", "Role"]
    kinds += ["ConfigMap", "Secret", "ServiceAccount", "Namespace"]
    add(
        chart,
        all="---\n".join(f"apiVersion: v1\nkind: {k}\nmetadata: {{name: x}}\n" for k in kinds),
    )
    assert [each["kind"] for each in rendered(chart)] == [
        "Namespace",
        "ServiceAccount",
        "Secret",
        "ConfigMap",
        "Role",
        "RoleBinding",
        "Service",
        "Deployment",
        "Ingress",
        "Aardvark",
        "Zebra",
    ]


def test_objects_of_one_kind_keep_the_order_of_their_templates_and_documents(chart: Path) -> None:
    add(
        chart,
        b=CONFIG_MAP.format(name="first-of-b") + "---\n" + CONFIG_MAP.format(name="a-second-of-b"),
        a=CONFIG_MAP.format(name="of-a"),
    )
    assert names(rendered(chart)) == [
        "ConfigMap/of-a",
        "ConfigMap/first-of-b",
        "ConfigMap/a-second-of-b",
    ]


def test_lists_are_taken_apart(chart: Path) -> None:
    item = "{apiVersion: v1, kind: %s, metadata: {name: %s}}"
    add(
        chart,
        outer="apiVersion: v1\nkind: List\nitems:\n"
        f"- {item % ('Service', 's')}\n"
        "- apiVersion: v1\n  kind: ConfigMapList\n  items:\n"
        f"  - {item % ('ConfigMap', 'c')}\n",
        empty="apiVersion: v1\nkind: List\nitems: []\n",
    )
    assert names(rendered(chart)) == ["ConfigMap/c", "Service/s"]


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_plain_scalars_are_read_as_helm_reads_them(
    chart: Path, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loader == "SafeLoader":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    add(
        chart,
        a=CONFIG_MAP.format(name="a")
        + "data: [22:22, 2024-01-01, =, 0644, 0o644, 0x1F, 1e3, .5, 1., -7, 1_000, yes, off, "
        + "y, N, yN, yEs, ~, 1.2.3, 08, '5', 12345678901, 1.00066e+09]\n",
    )
    manifests_module._loader.cache_clear()
    try:
        [manifest] = rendered(chart)
    finally:
        manifests_module._loader.cache_clear()
    assert manifest["data"] == [
        "22:22",
        "2024-01-01",
        "=",
        420,  # 6*64 + 4*8 + 4
        420,
        31,
        1000,
        0.5,
        1,
        -7,
        1000,
        True,
        False,
        True,
        False,
        "yN",
        "yEs",
        None,
        "1.2.3",
        8,
        "5",
        12345678901,
        1000660000,
    ]
    # Kubernetes refuses 1000.0 where it wants an integer.
    assert ".0" not in json.dumps(manifest)


def test_subcharts_follow_their_condition(chart: Path) -> None:
    with (chart / "Chart.yaml").open("a") as file:
        file.write("dependencies: [{name: kid, version: 0.1.0, condition: kid.enabled}]\n")
    kid = chart / "charts" / "kid"
    (kid / "templates").mkdir(parents=True)
    (kid / "Chart.yaml").write_text("apiVersion: v2\nname: kid\nversion: 0.1.0\n")
    add(kid, a=CONFIG_MAP.format(name="of-kid"))
    assert rendered(chart, {"kid": {"enabled": False}}) == []
    assert names(rendered(chart, {"kid": {"enabled": True}})) == ["ConfigMap/of-kid"]


# --- hooks


def hook(moments: str) -> str:
    return CONFIG_MAP.format(name="hook") + f'  annotations: {{"helm.sh/hook": "{moments}"}}\n'


@pytest.mark.parametrize(
    "moments", ["test", "test-failure", "pre-delete", "pre-upgrade,post-rollback"]
)
def test_hooks_that_no_installation_runs_are_left_out(chart: Path, moments: str) -> None:
    add(chart, hook=hook(moments), a=CONFIG_MAP.format(name="a"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(rendered(chart)) == ["ConfigMap/a"]


def test_a_hook_that_an_installation_runs_is_warned_of(chart: Path) -> None:
    add(chart, hook=hook("pre-install, pre-upgrade"), a=CONFIG_MAP.format(name="a"))
    with pytest.warns(HookNotRunWarning) as caught:
        assert names(rendered(chart)) == ["ConfigMap/a"]
    assert [str(each.message) for each in caught] == [
        f"chart {str(chart)!r}: demo/templates/hook.yaml: ConfigMap 'hook' is a pre-install hook "
        "and is not run; if the pods need it, apply it in a fixture of your own"
    ]
    assert Path(caught[0].filename) == Path(__file__)


# --- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- just\n- a list\n", "a document is no mapping, so it is no Kubernetes object: "
         "['just', 'a list']"),
        ("kind: Pod\n", "a document has no apiVersion, so it is no Kubernetes object: "
         "{'kind': 'Pod'}"),
        ("apiVersion: v1\n", "a document has no kind, so it is no Kubernetes object: "
         "{'apiVersion': 'v1'}"),
        ("apiVersion: v1\nkind: 7\n", "a document has no kind, so it is no Kubernetes object: "
         "{'apiVersion': 'v1', 'kind': 7}"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "a document has no metadata.name, so it is "
         "no Kubernetes object: {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {}}"),
        ("apiVersion: v1\nkind: List\nitems: [3]\n", "a document is no mapping, so it is no "
         "Kubernetes object: 3"),
        ("kind: Pod\nspec: " + "x" * 200 + "\n", "a document has no apiVersion, so it is no "
         "Kubernetes object: {'kind': 'Pod', 'spec': '" + "x" * 75 + "..."),
    ],
)  # fmt: skip
def test_a_document_that_is_no_object_is_named(chart: Path, text: str, message: str) -> None:
    add(chart, bad=text)
    assert refusal(chart) == f"demo/templates/bad.yaml: {message}"


def test_a_template_that_gives_no_yaml_is_named(chart: Path) -> None:
    add(chart, bad="a: b: c\n")
    assert refusal(chart).startswith(
        "demo/templates/bad.yaml is not YAML: mapping values are not allowed in this context\n"
    )


def test_a_template_that_fails_tells_helms_own_message(chart: Path) -> None:
    add(chart, bad='{{ fail "no luck" }}\n')
    assert refusal(chart) == "execution error at (demo/templates/bad.yaml:1:3): no luck"


def test_values_that_the_schema_forbids_tell_helms_own_message(chart: Path) -> None:
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    (chart / "values.schema.json").write_text(json.dumps(schema))
    assert refusal(chart, {"size": "big"}) == (
        "values don't meet the specifications of the schema(s) in the following chart(s):\n"
        "demo:\n- at '/size': got string, want integer"
    )


def test_values_that_are_not_json_are_refused(chart: Path) -> None:
    assert refusal(chart, {"where": Path()}) == (
        "its values are not JSON: Object of type PosixPath is not JSON serializable"
    )
    assert refusal(chart, {"size": float("nan")}).startswith("its values are not JSON: ")


def test_a_directory_that_is_no_chart_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert refusal(missing) == f"stat {missing}: no such file or directory"


@pytest.mark.parametrize("release", ["UPPER", "x" * 54, "under_score"])
def test_a_release_name_that_helm_refuses_is_refused(chart: Path, release: str) -> None:
    with pytest.raises(ChartError) as caught:
        render(chart, values={}, release=release, namespace="ns")
    assert str(caught.value) == (
        f"chart {str(chart)!r} does not render: release name {json.dumps(release)}: invalid "
        r"release name, must match regex ^[a-z0-9]([-a-z0-9]*[a-z0-9])?"
        r"(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ "
        "and the length must not be longer than 53"
    )


def test_a_chart_whose_dependencies_were_not_fetched_is_refused(chart: Path) -> None:
    with (chart / "Chart.yaml").open("a") as file:
        file.write("dependencies: [{name: redis, version: 1.x.x, repository: https://x.test}]\n")
    assert refusal(chart) == (
        "found in Chart.yaml, but missing in charts/ directory: redis; "
        f"run: helm dependency build {chart}"
    )


def test_importing_the_module_does_not_import_helm() -> None:
    code = "import sys, pytest_grpclb.chart; sys.exit('helm_python' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- where the charts are


def install(root: Path, where: str) -> None:
    (root / "pytest_grpclb").mkdir(parents=True)
    (root / where / "strategy").mkdir(parents=True)
    (root / where / "strategy" / "Chart.yaml").touch()


@pytest.mark.parametrize("where", ["pytest_grpclb/charts", "charts"])
def test_charts_are_found_in_a_wheel_and_beside_an_editable_package(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, where)
    monkeypatch.setattr(chart_module, "__file__", str(tmp_path / "pytest_grpclb" / "chart.py"))
    assert charts_directory() == tmp_path / where


def test_an_installation_without_charts_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "charts").mkdir()  # somebody else's
    monkeypatch.setattr(chart_module, "__file__", str(tmp_path / "pytest_grpclb" / "chart.py"))
    with pytest.raises(ChartError) as caught:
        charts_directory()
    assert str(caught.value) == (
        f"chart {str(tmp_path / 'pytest_grpclb' / 'charts')!r} does not render: this installation "
        "of pytest-grpclb came without its charts; install it again"
    )


def test_both_charts_are_there() -> None:
    assert {each.parent.name for each in charts_directory().glob("*/Chart.yaml")} == {
        "greeter",
        "strategy",
    }


# --- for which Kubernetes


def told_version(chart: Path, **more: str) -> str:
    add(
        chart,
        version=CONFIG_MAP.format(name="v") + "data: {told: '{{ .Capabilities.KubeVersion }}'}\n",
    )
    [manifest] = render(chart, values={}, release="rel", namespace="ns", **more)
    return str(manifest["data"]["told"])


def test_a_chart_is_rendered_for_the_clusters_version(chart: Path) -> None:
    assert told_version(chart) == "v1.36.0"
    assert told_version(chart, kube_version="v1.31.4") == "v1.31.4"
    assert told_version(chart, kube_version="v1.31.4-gke.100").startswith("v1.31.4")
    assert told_version(chart, kube_version="v1.36.0+grpclb").startswith("v1.36.0")


class OfLater:
    """A chart as a later release of the library may have it: without today's inner parts."""

    def render(self, values: dict[str, Any], *, name: str, kube_version: str) -> dict[str, str]:
        return {"a": f"{values} {name} {kube_version}"}


class OfOther:
    """A chart as a release may have it that cannot be told a version."""

    def render(self, values: dict[str, Any], *, name: str, namespace: str) -> dict[str, str]:
        return {"a": f"{values} {name} {namespace}"}


def test_the_library_is_told_as_much_as_it_takes() -> None:
    options = {"name": "rel", "namespace": "ns", "kube_version": "v1.31.4"}
    assert chart_module._rendered(OfLater(), '{"a": 1}', options) == {"a": "{'a': 1} rel v1.31.4"}
    assert chart_module._rendered(OfOther(), '{"a": 1}', options) == {"a": "{'a': 1} rel ns"}


def test_a_chart_for_another_version_is_refused_as_helm_refuses_it(chart: Path) -> None:
    metadata = chart / "Chart.yaml"
    plain = metadata.read_text()
    metadata.write_text(plain + 'kubeVersion: ">=1.32.0-0"\n')
    assert told_version(chart, kube_version="v1.32.0-gke.1").startswith("v1.32.0")
    with pytest.raises(ChartError) as caught:
        told_version(chart, kube_version="v1.31.4")
    assert caught.value.message == (
        "chart requires kubeVersion: >=1.32.0-0 which is incompatible with Kubernetes v1.31.4; "
        "take a release of it for that version, or another cluster"
    )
    metadata.write_text(plain + "kubeVersion: new\n")
    with pytest.raises(ChartError) as caught:
        told_version(chart)
    assert caught.value.message == ("kubeVersion of its Chart.yaml: 'new' is no version constraint")
