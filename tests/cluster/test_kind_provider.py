"""The kind provider, on programs that stand in for kind and docker."""

from __future__ import annotations

import json
import platform
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import yaml

from pytest_grpclb.clusters.api.kube import NAMESPACES, KubeApi
from pytest_grpclb.clusters.kind import provider as kind
from pytest_grpclb.clusters.kind.config import NODE_IMAGE
from pytest_grpclb.errors import ClusterStartError, ClusterUnavailableError, OptionError

from .kind_runs import begin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
    from pytest_grpclb.clusters.kind.provider import KindProvider

    from .stand_ins import StandIns


def creations(stand_ins: StandIns) -> int:
    return len(stand_ins.asked("kind create cluster"))


def test_workers_of_a_run_share_one_cluster_and_the_last_one_out_deletes_it(
    provider: Callable[..., KindProvider], stand_ins: StandIns, tmp_path: Path
) -> None:
    first, second = begin(provider(worker="gw0")), begin(provider(worker="gw1"))
    assert first.context == second.context == "kind-grpclb-abc123"
    assert creations(stand_ins) == 1
    assert len(stand_ins.asked("docker build")) == 1
    first.close()
    assert list(stand_ins.get()["clusters"]) == ["grpclb-abc123"]
    assert KubeApi(second.kubeconfig, second.context).list(NAMESPACES)
    second.close()
    assert stand_ins.get()["clusters"] == {}
    left = {path.name for path in (tmp_path / "tmp").rglob("*") if path.is_file()}
    assert left == {"lock"}


def test_the_cluster_is_created_with_its_ports_its_label_and_a_pinned_node(
    provider: Callable[..., KindProvider], stand_ins: StandIns, tmp_path: Path
) -> None:
    begin(provider())
    [node] = stand_ins.get()["config"]["nodes"]
    assert node["image"].startswith("kindest/node:v1.35.0@sha256:")
    assert node["labels"] == {"ingress-ready": "true"}
    assert [each["containerPort"] for each in node["extraPortMappings"]] == [80, 443, 30052]
    [command] = stand_ins.asked("kind create cluster")
    kubeconfig = tmp_path / "tmp"
    assert f"--kubeconfig={kubeconfig}" in command
    assert command.endswith("--wait=180s --retain")


def test_an_existing_cluster_is_used_by_its_name_and_left(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(clusters={"mine": {"80/tcp": 8080}})
    used = begin(provider(kind_name="mine"))
    assert KubeApi(used.kubeconfig, used.context).list(NAMESPACES)
    assert used.kind.name == "mine"  # a KindCluster, for tests that want kubectl
    used.close()
    assert creations(stand_ins) == 0
    assert stand_ins.asked("kind delete") == []
    assert list(stand_ins.get()["clusters"]) == ["mine"]


def test_a_named_cluster_that_is_not_there_is_created_and_deleted(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(clusters={"mine": {}})
    begin(provider(kind_name="new")).close()
    assert creations(stand_ins) == 1
    assert list(stand_ins.get()["clusters"]) == ["mine"]


def test_ports_that_collide_are_chosen_anew(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(port_collisions=2)
    begin(provider())
    assert creations(stand_ins) == 3
    assert len(stand_ins.asked("kind delete cluster")) == 2  # what --retain had left


def test_ports_that_go_on_colliding_are_an_error_in_kinds_words(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(port_collisions=99)
    cluster = provider()
    cluster.start()
    with pytest.raises(ClusterStartError, match="port is already allocated"):
        cluster.wait()
    assert creations(stand_ins) == 3


def test_a_cluster_that_does_not_come_up_leaves_its_logs_and_is_deleted(
    provider: Callable[..., KindProvider], stand_ins: StandIns, tmp_path: Path
) -> None:
    stand_ins.set(kubeadm_fails=True)
    cluster = provider(artifacts=tmp_path / "artifacts")
    cluster.start()
    with pytest.raises(ClusterStartError) as caught:
        cluster.wait()
    cluster.close()
    told = str(caught.value)
    assert told.startswith("cluster provider 'kind' did not start: `")
    assert "ended with exit code 1; it said:" in told
    assert "failed to init node with kubeadm" in told
    logs = tmp_path / "artifacts" / "kind-grpclb-abc123"
    kubelet = logs / "grpclb-abc123-control-plane" / "kubelet.log"
    assert kubelet.read_text() == "kubelet: no cgroups\n"
    assert stand_ins.get()["clusters"] == {}


def test_a_cluster_without_a_ready_node_is_none_though_kind_is_content_with_it(
    provider: Callable[..., KindProvider], stand_ins: StandIns, tmp_path: Path
) -> None:
    stand_ins.set(never_ready=True)
    cluster = provider(artifacts=tmp_path / "artifacts")
    cluster.start()
    with pytest.raises(ClusterStartError) as caught:
        cluster.wait()
    cluster.close()
    command, told = str(caught.value).split("` ", maxsplit=1)
    assert command.startswith("cluster provider 'kind' did not start: `")
    assert told == (
        "has no ready node after 180 s; see its nodes' logs (--grpclb-artifacts), or have the "
        "machine do less; it said:\n"
        'Creating cluster "grpclb-abc123" ...\n'
        " • WARNING: Timed out waiting for Ready ⚠️"
    )
    assert (tmp_path / "artifacts" / "kind-grpclb-abc123").is_dir()
    assert stand_ins.get()["clusters"] == {}


def test_a_kept_cluster_stays_with_the_command_that_deletes_it(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    told: list[str] = []
    # The worker that wants it kept need not be the last one out.
    wants = begin(provider(worker="gw0", keep=lambda: True, tell=told.append))
    other = begin(provider(worker="gw1", tell=told.append))
    wants.close()
    kubeconfig = other.kubeconfig
    other.close()
    program = stand_ins.programs / "kind"
    assert told == [
        f"grpclb: kept kind cluster 'grpclb-abc123'; its kubeconfig: {kubeconfig}; "
        f"delete it with: {program} delete cluster --name=grpclb-abc123"
    ]
    assert list(stand_ins.get()["clusters"]) == ["grpclb-abc123"]
    assert KubeApi(kubeconfig, "kind-grpclb-abc123").list(NAMESPACES)
    # Nor is it taken for what a run that died has left behind.
    begin(provider(run="later")).close()
    assert list(stand_ins.get()["clusters"]) == ["grpclb-abc123"]


def test_what_a_run_that_died_left_behind_is_deleted_at_the_next_start(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(clusters={"mine": {}})
    died = begin(provider(run="died"))
    share, died._share = died._share, None
    assert share is not None
    assert share._users is not None
    share._users.close()  # as the kernel does when a process is killed
    begin(provider(run="next"))
    assert sorted(stand_ins.get()["clusters"]) == ["grpclb-next", "mine"]


def test_a_cluster_whose_images_could_not_be_loaded_at_first_is_deleted_by_the_last_worker(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    asked = {"load_images": ("shop/server:1",)}
    first, second = provider(worker="gw0", **asked), provider(worker="gw1", **asked)
    first.start()
    with pytest.raises(OptionError, match="docker pull"):
        first.wait()
    stand_ins.set(images=[*stand_ins.get().get("images", ()), "shop/server:1"])
    begin(second)
    assert creations(stand_ins) == 1
    first.close()
    second.close()
    assert stand_ins.get()["clusters"] == {}


def test_a_cluster_that_was_there_is_left_also_where_it_cannot_be_used(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(clusters={"mine": {"80/tcp": 8080}})
    cluster = provider(kind_name="mine", load_images=("shop/server:1",))
    cluster.start()
    with pytest.raises(OptionError, match="docker pull"):
        cluster.wait()
    cluster.close()
    assert stand_ins.asked("kind delete") == []
    assert list(stand_ins.get()["clusters"]) == ["mine"]


def test_the_users_kubeconfig_and_other_clusters_are_not_touched(
    provider: Callable[..., KindProvider],
    stand_ins: StandIns,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = tmp_path / "config"
    theirs.write_text("current-context: work\n")
    monkeypatch.setenv("KUBECONFIG", str(theirs))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    stand_ins.set(clusters={"theirs": {}})
    cluster = begin(provider())
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    assert [each["name"] for each in config["contexts"]] == ["kind-grpclb-abc123"]
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    cluster.close()
    assert theirs.read_text() == "current-context: work\n"
    assert not (tmp_path / "home").exists()
    assert list(stand_ins.get()["clusters"]) == ["theirs"]


def test_the_ingress_is_where_the_engine_has_mapped_it(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    cluster = begin(provider())
    assert cluster.host_port(443) == "127.0.0.1:40443"
    with pytest.raises(ClusterUnavailableError, match="port 81 of 'grpclb-abc123' is not mapped"):
        cluster.host_port(81)


def test_nodes_that_would_not_start_here_are_refused_before_they_are_created(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(cgroup_version="1", clusters={"mine": {}})
    with pytest.raises(ClusterUnavailableError) as caught:
        provider().start()
    older = (
        "kindest/node:v1.34.3@sha256:"
        "08497ee19eace7b4b5348db5c6a1591d7752b164530a36f855cb0f2bdcbadd48"
    )
    assert str(caught.value) == (
        "cluster provider 'kind' cannot be used here: docker gives containers control groups of "
        f"version 1, with which nodes of {NODE_IMAGE} do not start (Kubernetes 1.35 and newer); "
        f"set --grpclb-kind-image={older}, or use a machine with cgroup v2"
    )
    begin(provider(kind_image=older))
    assert stand_ins.get()["config"]["nodes"][0]["image"] == older
    begin(provider(kind_name="mine"))  # its nodes have started


def test_a_kind_in_path_that_is_too_old_is_not_used(
    provider: Callable[..., KindProvider], stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.set(kind_version="v0.26.0")
    # Nor is one downloaded: that is for a machine that there is none for.
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ClusterUnavailableError, match=r"is kind v0\.26\.0, older than v0\.27\.0"):
        provider().start()
    assert creations(stand_ins) == 0


def test_an_engine_that_does_not_answer_is_no_engine(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(engine_is_down=True)
    with pytest.raises(ClusterUnavailableError) as caught:
        provider().start()
    assert str(caught.value) == (
        f"cluster provider 'kind' cannot be used here: {stand_ins.programs / 'docker'} does not "
        "work: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
        "Is the docker daemon running?; start docker, or use --grpclb-cluster=embedded"
    )


def test_nodes_on_another_machine_are_reached_by_its_name(
    provider: Callable[..., KindProvider],
    stand_ins: StandIns,
    embedded_cluster: EmbeddedCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with docker:dind beside a job; here that machine is where the embedded API listens."""
    config = json.loads(embedded_cluster.kubeconfig.read_text())
    place = urlsplit(config["clusters"][0]["cluster"]["server"])
    monkeypatch.setattr(kind, "remote_host", lambda _engine: place.hostname)
    stand_ins.set(ingress={"443/tcp": "0.0.0.0:8443", "80/tcp": "[::]:8080"})
    cluster = begin(provider())
    assert KubeApi(cluster.kubeconfig, cluster.context).list(NAMESPACES)
    assert cluster.host_port(443) == f"{place.hostname}:8443"
    assert cluster.host_port(80) == f"{place.hostname}:8080"
    made = stand_ins.get()["config"]
    assert made["networking"] == {"apiServerAddress": "0.0.0.0"}


def test_an_api_on_another_machine_that_cannot_be_reached_is_told_with_what_it_takes(
    provider: Callable[..., KindProvider], stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://docker.invalid:2376")
    cluster = provider()
    with pytest.raises(ClusterStartError) as caught:
        begin(cluster)
    told = str(caught.value)
    assert re.match(
        r"cluster provider 'kind' did not start: its API at https://docker\.invalid:\d+ cannot be "
        r"reached from here: GET /version: the Kubernetes API does not answer: ",
        told,
    )
    assert told.endswith(
        "; containers run on 'docker.invalid': that name must lead there, and a cluster that was "
        "there before must have been created with networking.apiServerAddress 0.0.0.0 and "
        "'docker.invalid' among the API's certSANs"
    )
    cluster.close()
    assert stand_ins.get()["clusters"] == {}
