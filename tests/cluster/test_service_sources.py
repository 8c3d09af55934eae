"""Services of one's own on the embedded cluster: each gets ready, or an error says what to set."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import PODS, KubeApi
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.deployment import Deployment
from pytest_grpclb.errors import ChartError, NotReadyError, ServiceError
from pytest_grpclb.settings import Settings
from pytest_grpclb.sources.choice import AgeVariable, Probe
from pytest_grpclb.sources.fitting import LeftOutWarning
from pytest_grpclb.sources.made import ImageSource
from pytest_grpclb.sources.rendered import ManifestSource, ServiceSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.sources.protocol import Source

SHOP = Path(__file__).parents[2] / "example_tests" / "shop"
SERVER = ["python", "-m", "shop.server"]
OPEN = [*SERVER, "--listen", "{ip}:{port}"]
IMAGES = {
    "shop": OPEN,
    "everywhere": [*SERVER, "--listen", "0.0.0.0:{port}"],
    "taken": [*SERVER, "--listen", "[::]:50051"],
    "late": ["sh", "-c", 'sleep 2; exec "$@"', "-", *SERVER, "--listen", "[::]:50051"],
    "deaf": ["sleep", "1000"],
    "unhealthy": [*OPEN, "--no-health"],
    "elsewhere": [*SERVER, "--listen", "{ip}:50077"],
    "missing": ["no-such-program", "{ip}"],
    "ends": ["sh", "-c", "echo no configuration; exit 3"],
    "configured": [
        *("sh", "-c", 'test "$GREETING $PASSWORD" = "hello secret" && exec "$@"', "-"),
        *OPEN,
    ],
    "reads": ["sh", "-c", 'cat /etc/shop/name && exec "$@"', "-", *OPEN],
    "led": ["sh", "-c", 'cat {root}/etc/shop/name && exec "$@"', "-", *OPEN],
    "slow": ["sh", "-c", 'sleep 3; exec "$@"', "-", *OPEN],
    "after 20 s": ["sh", "-c", 'sleep 20; exec "$@"', "-", *OPEN],
    "python": ["python"],
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(
        tmp_path_factory.mktemp("own") / "cluster", images=IMAGES, commands_directory=SHOP
    )
    try:
        cluster.start()
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def api(cluster: EmbeddedCluster) -> Iterator[KubeApi]:
    with closing(KubeApi(cluster.kubeconfig, cluster.context)) as api:
        yield api


@pytest.fixture
def ready(api: KubeApi, namespace: str) -> Iterator[Callable[..., Deployment]]:
    """Installs what a source describes and waits for its pods."""
    opened = []

    def install(source: Source, **settings: Any) -> Deployment:
        wanted = Settings(**{"replicas": 2, **settings})
        backends = source.backends(api, wanted, namespace=namespace)
        api.apply(backends.manifests, namespace=namespace)
        deployment = Deployment(
            api,
            backends.service,
            ready_timeout_s=wanted.ready_timeout_s,
            crashes_allowed=backends.crashes_allowed,
        )
        opened.append(deployment)
        deployment.wait_ready(backends.replicas)
        return deployment

    yield install
    for each in opened:
        each.close()


def image(name: str, **more: Any) -> ImageSource:
    return ImageSource(image=name, root=SHOP, **more)


def told(error: NotReadyError) -> str:
    """Return an error's first line, without how long was waited."""
    line = str(error).partition("\n")[0]
    return line.partition("; ")[2]


# --- commands and images


def test_a_command_listens_on_each_pod_s_own_address(ready: Callable[..., Deployment]) -> None:
    deployment = ready(image("shop"))
    assert len({backend.address for backend in deployment.backends()}) == 2


def test_what_listens_on_all_addresses_gets_a_port_of_its_own(
    ready: Callable[..., Deployment],
) -> None:
    deployment = ready(image("everywhere"), replicas=3)
    for backend in deployment.backends():
        socket.create_connection((backend.address, 50051), timeout=10).close()
    victim = deployment.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((victim.address, 50051), timeout=10)


LISTENING = (
    "pods of the embedded cluster are processes that share this machine's ports: have it listen on "
    "{ip}:{port}, or give it {port} alone, which is then another one for each pod "
    "(in --grpclb-command or grpclb_embedded_images)"
)


def test_who_takes_a_port_from_all_pods_is_told_so(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("taken"))
    # Which of the two shows first is the machine's affair: another run's pod may have the port.
    assert told(caught.value) in {
        f"the service listens on all addresses; {LISTENING}",
        "the process of the container 'service' ends by itself (exit code 1): its port is taken; "
        + LISTENING,
    }


@pytest.mark.parametrize("name", ["taken", "late"])
def test_no_probe_is_needed_to_see_that_pods_share_a_port(
    ready: Callable[..., Deployment], name: str
) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image(name, probe=Probe.NONE))
    assert told(caught.value) in {
        f"the service listens on all addresses; {LISTENING}",
        "the process of the container 'service' ends by itself (exit code 1): its port is taken; "
        + LISTENING,
    }


def test_a_container_that_listens_nowhere_is_ready_all_the_same(
    ready: Callable[..., Deployment],
) -> None:
    ready(image("deaf", probe=Probe.NONE))


def test_a_service_without_a_health_service_needs_another_probe(
    ready: Callable[..., Deployment],
) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("unhealthy"))
    assert told(caught.value) == (
        "the service has no health service (grpc.health.v1.Health) that a gRPC probe could ask: "
        "set --grpclb-probe=tcp, or have its manifests probe by tcpSocket"
    )
    assert caught.value.timeout_s < 30.0  # no time would mend it


@pytest.mark.parametrize("probe", [Probe.TCP, Probe.NONE])
def test_with_another_probe_it_gets_ready(ready: Callable[..., Deployment], probe: Probe) -> None:
    ready(image("unhealthy", probe=probe))


def test_a_port_that_nothing_listens_on_is_named(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("elsewhere"), replicas=1, ready_timeout_s=4.0)
    [pod] = [line for line in caught.value.details.splitlines() if "failed to connect" in line]
    address = pod.partition('"')[2].partition('"')[0]
    assert address.endswith(":50051")
    ip = address.partition(":")[0]
    assert told(caught.value) == (
        f"nothing listens on {address}, the process is up: it listens on {ip}:50077 only; have its "
        "command listen on {ip}:{port} (--grpclb-command, grpclb_embedded_images), say where it "
        "listens with --grpclb-service-port, or raise --grpclb-ready-timeout if it is still "
        "starting"
    )


def test_a_command_that_does_not_exist_is_named(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("missing"))
    assert told(caught.value) == (
        "the command of the container 'service' cannot be started (exec \"no-such-program\": "
        "executable file not found in $PATH): correct it (--grpclb-command, or "
        "grpclb_embedded_images, where one of these names it)"
    )


def test_the_last_words_of_a_command_that_ends_are_told(ready: Callable[..., Deployment]) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("ends"))
    assert told(caught.value) == (
        "the process of the container 'service' ends by itself (exit code 3): its last words are "
        "below"
    )
    assert "no configuration" in caught.value.details
    assert caught.value.timeout_s < 30.0


def test_configuration_comes_from_config_maps_and_secrets(
    ready: Callable[..., Deployment], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {GREETING: hello}\n"
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: shop}\n"
        "stringData: {PASSWORD: secret}\n"
    )
    ready(
        image(
            "configured",
            environment_from=(("configMap", "shop"), ("secret", "shop")),
            manifests=(str(tmp_path / "config.yaml"),),
        )
    )


@pytest.mark.parametrize("name", ["slow", "after 20 s"])
def test_a_slow_start_is_waited_for_and_not_cut_short(
    ready: Callable[..., Deployment], api: KubeApi, namespace: str, name: str
) -> None:
    ready(image(name))
    restarts = [
        status["restartCount"]
        for pod in api.list(PODS, namespace)
        for status in pod["status"]["containerStatuses"]
    ]
    assert restarts == [0, 0]


def test_a_start_slower_than_the_timeout_says_what_to_raise(
    ready: Callable[..., Deployment],
) -> None:
    with pytest.raises(NotReadyError) as caught:
        ready(image("slow"), replicas=1, ready_timeout_s=2.0)
    assert told(caught.value).endswith("or raise --grpclb-ready-timeout if it starts slowly")


def test_a_service_is_told_its_connection_age_and_who_it_is(api: KubeApi, namespace: str) -> None:
    source = image(
        "shop", connection_age=AgeVariable(name="AGE", template="{s}s"), environment={"A": "b"}
    )
    backends = source.backends(api, Settings(max_connection_age_s=2.5), namespace=namespace)
    [deployment] = backends.manifests
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables == {
        "POD_NAME": None,
        "POD_NAMESPACE": None,
        "POD_IP": None,
        "POD_UID": None,
        "AGE": "2.5s",
        "A": "b",
    }


# --- charts and manifests

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
