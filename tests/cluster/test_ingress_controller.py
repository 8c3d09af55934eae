"""The ingress controller of kind and of existing clusters, on an embedded one's API."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters import ClusterRequest, ingress_controller
from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, NAMESPACES, PODS, KubeApi, Resource
from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.ingress_controller import IMAGE, manifests
from pytest_grpclb.clusters.kubeconfig import KubeconfigCluster
from pytest_grpclb.errors import ApiError, ClusterStartError, ClusterUnavailableError
from pytest_grpclb.model import Service
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies.ingress_nginx import IngressNginx

from .stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_grpclb.clusters.kind.provider import KindProvider

CLASSES = Resource("networking.k8s.io/v1", "ingressclasses", namespaced=False)
STAND_IN = Path(__file__).parent / "stand_ins" / "controller.py"
PINNED = f"{IMAGE}@sha256:594ceea76b01c592858f803f9ff4d2cb40542cae2060410b2c95f75907d659e1"


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(
        tmp_path_factory.mktemp("existing") / "cluster",
        images={
            IMAGE.partition(":")[0]: [sys.executable, "-P", str(STAND_IN), "{ip}"],
        },
    )
    try:
        cluster.start()
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def api(existing: EmbeddedCluster) -> Iterator[KubeApi]:
    """A cluster without an ingress controller, as kind makes them."""
    api = KubeApi(existing.kubeconfig, existing.context)

    def clear() -> None:
        api.delete(NAMESPACES, "", "ingress-nginx")
        for each in api.list(CLASSES):
            api.delete(CLASSES, "", each["metadata"]["name"])

    clear()
    yield api
    clear()
    deadline_s = time.monotonic() + 30
    while any(each["metadata"]["name"] == "ingress-nginx" for each in api.list(NAMESPACES)):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)  # the pause between two looks
    api.close()


@pytest.fixture
def stand_ins(
    existing: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StandIns:
    made = StandIns.install(tmp_path / "stand-ins", kubeconfig=existing.kubeconfig)
    monkeypatch.setenv("PATH", made.path_variable())
    monkeypatch.delenv("KIND_EXPERIMENTAL_PROVIDER", raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come up in these tests never will."""
    monkeypatch.setattr(ingress_controller, "_READY_S", 30.0)


@pytest.fixture
def kind(provider: Callable[..., KindProvider]) -> Callable[..., KindProvider]:
    """Make providers whose clusters run."""

    def make(**what: object) -> KindProvider:
        made = provider(**what)
        made.start()
        made.wait()
        return made

    return make


def ingress_class(api: KubeApi, name: str, controller: str) -> None:
    spec = {"metadata": {"name": name}, "spec": {"controller": controller}}
    api.request("POST", CLASSES.path(), body=spec)


def by_kind(objects: list[Any]) -> dict[str, Any]:
    return {each["kind"]: each for each in objects}


# --- what is installed


def test_it_is_pinned_and_sits_on_the_node_whose_ports_are_mapped() -> None:
    deployment = by_kind(manifests(node="grpclb-1-control-plane"))["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == PINNED
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "grpclb-1-control-plane"}
    assert [each["hostPort"] for each in container["ports"]] == [80, 443]
    assert pod["tolerations"] == [
        {
            "key": "node-role.kubernetes.io/control-plane",
            "operator": "Exists",
            "effect": "NoSchedule",
        }
    ]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_its_answers_name_the_pod_by_the_header_that_is_looked_for() -> None:
    """As add-headers has it: the name of a second ConfigMap, of which each entry is a header."""
    objects = manifests(node="n")
    maps = {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": each["data"]
        for each in objects
        if each["kind"] == "ConfigMap"
    }
    deployment = by_kind(objects)["Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert "--configmap=$(POD_NAMESPACE)/ingress-nginx-controller" in container["args"]
    settings = maps["ingress-nginx/ingress-nginx-controller"]
    service = Service(name="s", namespace="ns", selector={"a": "b"}, port=1, deployment="s")
    target = IngressNginx().target(service, Settings(), release="r")
    assert maps[settings["add-headers"]] == {target.upstream_header: "$upstream_addr"}
    # The controller reads it when it starts, and not again.
    kinds = [each["kind"] for each in objects]
    assert max(at for at, kind in enumerate(kinds) if kind == "ConfigMap") < kinds.index(
        "Deployment"
    )


def test_an_image_that_was_loaded_is_asked_for_by_its_tag() -> None:
    """An archive's digest is not the registry's: by that one, the node would pull it again."""
    deployment = by_kind(manifests(node="n", loaded=[IMAGE]))["Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE


def test_it_may_not_do_more_than_follow_ingresses_and_say_so() -> None:
    objects = manifests(node="n")
    writes = {
        (resource, verb)
        for each in objects
        if each["kind"] in {"ClusterRole", "Role"}
        for rule in each["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb not in {"get", "list", "watch"}
    }
    assert writes == {
        ("events", "create"),
        ("events", "patch"),
        ("ingresses/status", "update"),
        ("leases", "create"),
        ("leases", "update"),
    }


# --- kind


def test_it_is_installed_when_it_is_asked_for_and_ready_then(
    kind: Callable[..., KindProvider], api: KubeApi
) -> None:
    cluster = kind()
    assert api.list(CLASSES) == []
    assert cluster.ingress_address(https=True) == "127.0.0.1:40443"
    assert cluster.ingress_address(https=False) == "127.0.0.1:40080"
    assert ingress_controller.controllers(api) == {"nginx": "k8s.io/ingress-nginx"}
    status = api.get(DEPLOYMENTS, "ingress-nginx", "ingress-nginx-controller")["status"]
    assert status["readyReplicas"] == 1
    [(name, log)] = [each for each in cluster.ingress_files().items() if each[0].endswith(".log")]
    assert name.startswith("ingress-nginx-controller-")
    assert log == (
        "asked: /nginx-ingress-controller --election-id=ingress-nginx-leader "
        "--controller-class=k8s.io/ingress-nginx --ingress-class=nginx "
        "--configmap=ingress-nginx/ingress-nginx-controller --publish-status-address=localhost\n"
    )


def test_workers_that_ask_at_once_install_one(
    kind: Callable[..., KindProvider], api: KubeApi
) -> None:
    workers = [kind(worker=f"gw{number}") for number in range(3)]
    told: list[str] = []
    threads = [
        threading.Thread(target=lambda each=each: told.append(each.ingress_address(https=True)))
        for each in workers
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert told == ["127.0.0.1:40443"] * 3
    assert len(api.list(PODS, "ingress-nginx")) == 1


def test_a_cluster_that_was_there_is_told_to_have_got_one(
    kind: Callable[..., KindProvider], stand_ins: StandIns, api: KubeApi
) -> None:
    stand_ins.set(clusters={"mine": {"80/tcp": 8080, "443/tcp": 8443}})
    told: list[str] = []
    cluster = kind(kind_name="mine", tell=told.append)
    assert cluster.ingress_address(https=True) == "127.0.0.1:8443"
    assert told == ["grpclb: installed ingress-nginx in kind cluster 'mine', where it stays"]
    assert kind(kind_name="mine", tell=told.append).ingress_address(https=False).endswith(":8080")
    assert len(told) == 1
    assert len(api.list(PODS, "ingress-nginx")) == 1


def test_one_that_somebody_else_has_installed_is_used(
    kind: Callable[..., KindProvider], api: KubeApi
) -> None:
    ingress_class(api, "nginx", "k8s.io/ingress-nginx")
    assert kind().ingress_address(https=True) == "127.0.0.1:40443"
    with pytest.raises(ApiError, match="404"):
        api.get(NAMESPACES, "", "ingress-nginx")


def test_a_class_of_another_controller_is_left_alone(
    kind: Callable[..., KindProvider], api: KubeApi
) -> None:
    ingress_class(api, "nginx", "example.com/proxy")
    with pytest.raises(ClusterUnavailableError) as caught:
        kind().ingress_address(https=True)
    assert str(caught.value) == (
        "cluster provider 'kind' cannot be used here: its IngressClass 'nginx' belongs to the "
        "controller 'example.com/proxy'; use a cluster where it is 'k8s.io/ingress-nginx', "
        "or that has no such class"
    )


def test_without_the_mapping_nothing_is_installed(
    kind: Callable[..., KindProvider], stand_ins: StandIns, api: KubeApi
) -> None:
    stand_ins.set(clusters={"mine": {"80/tcp": 8080}})
    with pytest.raises(ClusterUnavailableError, match="port 443 of 'mine' is not mapped"):
        kind(kind_name="mine").ingress_address(https=True)
    assert api.list(CLASSES) == []


def test_a_port_that_is_mapped_on_every_address_is_reached_by_one(
    kind: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    cluster = kind()
    stand_ins.set(ingress={"443/tcp": "0.0.0.0:8443", "80/tcp": "[::]:8080"})
    assert cluster.host_port(443) == "127.0.0.1:8443"
    assert cluster.host_port(80) == "[::1]:8080"


def test_one_that_does_not_get_ready_is_an_error_with_what_its_pods_say(
    kind: Callable[..., KindProvider], api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress_controller, "IMAGE", "registry.example.com/missing:1")
    monkeypatch.setattr(ingress_controller, "_READY_S", 2.0)
    cluster = kind()
    with pytest.raises(ClusterStartError) as caught:
        cluster.ingress_address(https=True)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "cluster provider 'kind' did not start: its ingress controller was not ready after 2 s; "
        "where its node cannot pull registry.example.com/missing:1, pull it here and give "
        "--grpclb-load-image=registry.example.com/missing:1; its pods say:"
    )
    assert lines[1].startswith("pod ingress-nginx-controller-")
    assert "no command of this machine stands for the image" in str(caught.value)
    # Nobody waits for it again.
    with pytest.raises(ClusterStartError) as again:
        cluster.ingress_address(https=True)
    assert again.value is caught.value


# --- existing clusters


@pytest.fixture
def known(
    existing: EmbeddedCluster, api: KubeApi, tmp_path: Path
) -> Iterator[Callable[..., KubeconfigCluster]]:
    made: list[KubeconfigCluster] = []

    def make(ingress: str, **more: str) -> KubeconfigCluster:
        asked = ClusterRequest(
            directory=tmp_path,
            kubeconfig=str(existing.kubeconfig),
            context=existing.context,
            ingress=ingress,
        )
        asked = replace(asked, **more)  # type: ignore[arg-type]
        made.append(KubeconfigCluster(asked))
        made[-1].start()
        made[-1].wait()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("given", "https", "http"),
    [
        ("in.example.com", "in.example.com:443", "in.example.com:80"),
        ("10.0.0.7:8443", "10.0.0.7:8443", "10.0.0.7:80"),
        ("[fd00::7]:8443:8080", "[fd00::7]:8443", "[fd00::7]:8080"),
    ],
)
def test_an_existing_one_is_used_where_it_is_said_to_be(
    known: Callable[[str], KubeconfigCluster], api: KubeApi, given: str, https: str, http: str
) -> None:
    ingress_class(api, "edge", "k8s.io/ingress-nginx")
    cluster = known(given)
    assert cluster.ingress_address(https=True) == https
    assert cluster.ingress_address(https=False) == http


def test_an_existing_one_must_be_said_where_it_is(
    known: Callable[[str], KubeconfigCluster],
) -> None:
    with pytest.raises(ClusterUnavailableError) as caught:
        known("").ingress_address(https=True)
    assert str(caught.value) == (
        "cluster provider 'kubeconfig' cannot be used here: it is not known where the ingress of "
        "an existing cluster listens; say so with --grpclb-ingress=HOST (ports 443 and 80, or "
        "HOST:PORT:HTTP_PORT), or use --grpclb-cluster=kind, which installs one"
    )


def test_a_cluster_without_one_says_which_it_has(
    known: Callable[[str], KubeconfigCluster], api: KubeApi, existing: EmbeddedCluster
) -> None:
    ingress_class(api, "other", "example.com/proxy")
    with pytest.raises(ClusterUnavailableError) as caught:
        known("in.example.com").ingress_address(https=True)
    assert str(caught.value) == (
        f"cluster provider 'kubeconfig' cannot be used here: context {existing.context!r} has no "
        "IngressClass of the controller 'k8s.io/ingress-nginx', only: other (example.com/proxy); "
        "have ingress-nginx installed there, use --grpclb-cluster=kind, or, where one of these is "
        "an ingress-nginx that goes by another name, say so with --grpclb-ingress-class"
    )


def test_a_class_that_is_named_need_only_be_there(
    known: Callable[..., KubeconfigCluster], api: KubeApi, existing: EmbeddedCluster
) -> None:
    ingress_class(api, "webapprouting", "webapprouting.kubernetes.azure.com/nginx")
    place = "in.example.com"
    named = known(place, ingress_class="webapprouting")
    assert named.ingress_address(https=True) == f"{place}:443"
    with pytest.raises(ClusterUnavailableError) as caught:
        known(place, ingress_class="nginx").ingress_address(https=True)
    assert str(caught.value) == (
        f"cluster provider 'kubeconfig' cannot be used here: context {existing.context!r} has no "
        "IngressClass 'nginx', only: webapprouting (webapprouting.kubernetes.azure.com/nginx); "
        "name one of these with --grpclb-ingress-class"
    )


def test_who_may_not_list_classes_goes_on(
    known: Callable[[str], KubeconfigCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = known("in.example.com")

    def refuse(*_: object, **__: object) -> None:
        raise ApiError("GET", CLASSES.path(), status=403, reason="Forbidden")

    with monkeypatch.context() as patch:
        patch.setattr(KubeApi, "list", refuse)
        assert cluster.ingress_address(https=True) == "in.example.com:443"
