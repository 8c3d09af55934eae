"""Charts and manifests on the embedded cluster: each gets ready, or an error says what to set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.errors import ChartError, NotReadyError, ServiceError
from pytest_grpclb.settings import Settings
from pytest_grpclb.sources.fitting import LeftOutWarning
from pytest_grpclb.sources.rendered import ManifestSource, ServiceSource

from .services import told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.deployment import Deployment


DEPLOYMENT = """
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: main
          image: shop
          ports: [{{name: grpc, containerPort: 50051}}]
          readinessProbe: {{grpc: {{port: 50051}}}}
---
"""


def manifest(kind: str, name: str, api_version: str = "v1") -> str:
    return f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\n---\n"


def files(folder: Path, **texts: str) -> ManifestSource:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return ManifestSource(paths=("*.yaml",), root=folder)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_manifests_are_applied_with_the_replicas_of_the_test(
    ready: Callable[..., Deployment], tmp_path: Path, kind: str
) -> None:
    source = files(
        tmp_path,
        deployment=DEPLOYMENT.format(kind=kind, name="shop"),
        config="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n",
    )
    deployment = ready(source)
    assert (deployment.service.kind, len(deployment.backends())) == (kind, 2)


def test_a_program_that_only_the_image_has_is_what_the_image_is_mapped_to(
    ready: Callable[..., Deployment], tmp_path: Path
) -> None:
    deployment = DEPLOYMENT.format(kind="Deployment", name="shop")
    own = deployment.replace("image: shop", "image: shop\n          command: [/app/shop, serve]")
    ready(files(tmp_path, deployment=own))


def test_a_chart_is_applied_with_values_and_scaled(
    ready: Callable[..., Deployment], tmp_path: Path
) -> None:
    chart = make_chart(tmp_path, DEPLOYMENT.format(kind="Deployment", name="{{ .Values.name }}"))
    deployment = ready(ServiceSource(chart=chart, release="r", values={"name": "tea-shop"}))
    assert deployment.service.deployment == "tea-shop"
    deployment.scale(3)
    assert len(deployment.backends()) == 3


MOUNTS = """
          volumeMounts: [{name: config, mountPath: /etc/shop}]
      volumes: [{name: config, configMap: {name: shop}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: shop}
data: {name: tea}
"""


def mounting(folder: Path, image: str) -> ManifestSource:
    deployment = DEPLOYMENT.format(kind="Deployment", name="shop").rstrip().removesuffix("---")
    return files(folder, all=deployment.replace("image: shop", f"image: {image}") + MOUNTS)


def test_a_file_at_its_mount_path_is_not_found_there_and_the_error_says_what_to_set(
    ready: Callable[..., Deployment], tmp_path: Path
) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(mounting(tmp_path, "reads"), replicas=1)
    assert told(caught.value) == (
        "the process of the container 'main' ends by itself (exit code 1): its last words name "
        "'/etc/shop', where it mounts a volume; processes of the embedded cluster share this "
        "machine's files: have an argument or variable of the container name the path, which is "
        "then led to the volume, or the command in grpclb_embedded_images, as {root}/etc/shop"
    )
    assert caught.value.timeout_s < 30.0  # no time would mend it
    ready(mounting(tmp_path, "led"), replicas=1)


def make_chart(folder: Path, template: str) -> Path:
    chart = folder / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (chart / "templates" / "all.yaml").write_text(template)
    return chart


def test_a_chart_is_rendered_for_the_version_that_the_cluster_is(
    api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    template = DEPLOYMENT.format(kind="Deployment", name="shop").rstrip().removesuffix("---")
    told = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: told}\n"
    version = "data: {version: '{{ .Capabilities.KubeVersion.GitVersion }}'}\n"
    chart = make_chart(tmp_path, template + told + version)
    backends = ServiceSource(chart=chart, release="r").backends(
        api, Settings(), namespace=namespace
    )
    [config] = [each for each in backends.manifests if each["kind"] == "ConfigMap"]
    assert config["data"]["version"] == api.request("GET", "/version")["gitVersion"]
    (chart / "Chart.yaml").write_text(
        'apiVersion: v2\nname: shop\nversion: 1.0.0\nkubeVersion: ">=1.99"\n'
    )
    with pytest.raises(ChartError, match=r"chart requires kubeVersion: >=1\.99 which"):
        ServiceSource(chart=chart, release="r").backends(api, Settings(), namespace=namespace)


def test_what_pods_can_do_without_is_left_out_and_named(
    api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    scaler = manifest("HorizontalPodAutoscaler", "hpa", "autoscaling/v2")
    budget = manifest("PodDisruptionBudget", "pdb", "policy/v1")
    chart = make_chart(
        tmp_path, DEPLOYMENT.format(kind="Deployment", name="shop") + scaler + budget
    )
    (chart / "crds").mkdir()
    (chart / "crds" / "tea.yaml").write_text(manifest("CustomResourceDefinition", "tea", "x/v1"))
    with pytest.warns(LeftOutWarning) as caught:
        backends = ServiceSource(chart=chart, release="r").backends(
            api, Settings(), namespace=namespace
        )
    assert [each["kind"] for each in backends.manifests] == ["Deployment"]
    assert [str(each.message) for each in caught] == [
        f"chart {str(chart)!r}: crds/tea.yaml is left out: custom resource definitions are the "
        "cluster's, apply it in a fixture of your own",
        f"chart {str(chart)!r}: PodDisruptionBudget 'pdb' (policy/v1) is left out: the cluster "
        "does not know its kind; if that is well, name its kind in grpclb_skip_kinds",
        f"chart {str(chart)!r}: HorizontalPodAutoscaler 'hpa' (autoscaling/v2) is left out: it "
        "would undo what tests do; if that is well, name its kind in grpclb_skip_kinds",
    ]
    (chart / "crds" / "tea.yaml").unlink()
    agreed = frozenset({"HorizontalPodAutoscaler", "PodDisruptionBudget"})
    source = ServiceSource(chart=chart, release="r", skipped_kinds=agreed)
    backends = source.backends(api, Settings(), namespace=namespace)  # a warning is an error
    assert [each["kind"] for each in backends.manifests] == ["Deployment"]


def test_other_kinds_are_refused_together_until_the_user_does_without(
    api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    source = files(
        tmp_path,
        all=DEPLOYMENT.format(kind="Deployment", name="shop")
        + manifest("DaemonSet", "agent", "apps/v1")
        + manifest("Certificate", "shop", "cert-manager.io/v1")
        + manifest("ClusterRole", "shop", "rbac.authorization.k8s.io/v1"),
    )
    with pytest.raises(ServiceError) as caught:
        source.backends(api, Settings(), namespace=namespace)
    assert str(caught.value) == (
        "--grpclb-manifests: it belongs to the whole cluster: ClusterRole 'shop' "
        "(rbac.authorization.k8s.io/v1); the cluster does not know its kind: DaemonSet 'agent' "
        "(apps/v1), Certificate 'shop' (cert-manager.io/v1); if the pods run without them, set "
        "grpclb_skip_kinds = ClusterRole DaemonSet Certificate; else have them in the cluster "
        "beforehand (--grpclb-cluster)"
    )
    kinds = frozenset({"ClusterRole", "DaemonSet", "Certificate"})
    skipping = ManifestSource(paths=source.paths, root=tmp_path, skipped_kinds=kinds)
    assert len(skipping.backends(api, Settings(), namespace=namespace).manifests) == 1


def test_the_namespace_of_the_workload_gives_way_to_the_test_s(
    api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    """As `kubectl kustomize` writes it, or a team that has one namespace for a service."""
    deployment = DEPLOYMENT.format(kind="Deployment", name="shop")
    binding = (
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n"
        "metadata: {name: b, namespace: prod}\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\n"
        "subjects:\n"
        "- {kind: ServiceAccount, name: shop, namespace: prod}\n"
        "- {kind: ServiceAccount, name: shop, namespace: other}\n"
    )
    source = files(
        tmp_path,
        a=deployment.replace("name: shop", "name: shop, namespace: prod", 1),
        b=binding,
    )
    backends = source.backends(api, Settings(), namespace=namespace)
    assert {each["metadata"]["namespace"] for each in backends.manifests} == {namespace}
    assert backends.service.namespace == namespace
    [bound] = [each for each in backends.manifests if each["kind"] == "RoleBinding"]
    assert [each["namespace"] for each in bound["subjects"]] == [namespace, "other"]


def test_what_kustomize_is_told_is_no_manifest(
    api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    told = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n"
    source = files(
        tmp_path, a=DEPLOYMENT.format(kind="Deployment", name="shop"), kustomization=told
    )
    with pytest.raises(ServiceError) as caught:
        source.backends(api, Settings(), namespace=namespace)
    file = tmp_path / "kustomization.yaml"
    assert str(caught.value) == (
        f"--grpclb-manifests: {str(file)!r} says what kustomize shall do and is no manifest; give "
        "the file that `kubectl kustomize` writes, or leave this one out of the pattern"
    )


def test_objects_of_other_namespaces_are_refused(
    api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: prod}\n"
    source = files(tmp_path, a=DEPLOYMENT.format(kind="Deployment", name="shop"), b=config)
    with pytest.raises(ServiceError) as caught:
        source.backends(api, Settings(), namespace=namespace)
    assert str(caught.value) == (
        "--grpclb-manifests: it has objects that go to namespaces of their own: ConfigMap 'c' to "
        "'prod'; leave metadata.namespace out: each test has a namespace of its own"
    )
