"""Containers on another machine: which one, and how kind's API is reached there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_grpclb.clusters.kind.config import merged
from pytest_grpclb.clusters.kind.remote import lead_to, remote_host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("", ""),
        ("unix:///var/run/docker.sock", ""),
        ("tcp://docker:2376", "docker"),
        ("tcp://10.0.0.7:2375", "10.0.0.7"),
        ("tcp://[fd00::7]:2375", "fd00::7"),
        ("https://docker.example.com:2376", "docker.example.com"),
        ("tcp://localhost:2375", ""),
        ("tcp://127.0.0.2:2375", ""),
        ("tcp://[::1]:2375", ""),
        ("ssh://me@build.example.com", ""),
    ],
)
def test_the_machine_with_the_containers_is_the_engines(
    monkeypatch: pytest.MonkeyPatch, value: str, host: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", value)
    assert remote_host("docker") == host
    assert remote_host("podman") == remote_host("nerdctl") == ""
    monkeypatch.setenv("CONTAINER_HOST", value)
    assert remote_host("podman") == host


def patches(config: dict[str, Any]) -> list[Any]:
    return [yaml.safe_load(each) for each in config["kubeadmConfigPatches"]]


NAMED = {
    "kind": "ClusterConfiguration",
    "apiServer": {"certSANs": ["localhost", "127.0.0.1", "docker"]},
}


def test_there_its_api_and_its_ports_listen_on_all_addresses_and_it_has_that_name() -> None:
    config = merged(None, remote="docker")
    assert config["networking"] == {"apiServerAddress": "0.0.0.0"}
    assert patches(config) == [NAMED]
    places = {each["listenAddress"] for each in config["nodes"][0]["extraPortMappings"]}
    assert places == {"0.0.0.0"}
    assert "networking" not in merged(None)
    assert "kubeadmConfigPatches" not in merged(None)


def test_what_the_user_says_wins_there_too() -> None:
    own = "kind: ClusterConfiguration\napiServer: {certSANs: [own]}\n"
    networking = {"apiServerAddress": "10.0.0.7", "ipFamily": "dual"}
    user = {"networking": networking, "kubeadmConfigPatches": [own]}
    config = merged(user, remote="docker")
    assert config["networking"] == networking
    assert patches(config) == [NAMED, yaml.safe_load(own)]  # the later one changes the earlier
    assert user == {"networking": networking, "kubeadmConfigPatches": [own]}


@pytest.mark.parametrize(
    ("server", "host", "led"),
    [
        ("https://0.0.0.0:6443", "docker", "https://docker:6443"),
        ("https://127.0.0.1:6443", "docker", "https://docker:6443"),
        ("https://[::]:6443", "fd00::7", "https://[fd00::7]:6443"),
        ("https://10.0.0.9:6443", "docker", "https://10.0.0.9:6443"),
    ],
)
def test_its_kubeconfig_leads_there_and_no_other_cluster_is_touched(
    tmp_path: Path, server: str, host: str, led: str
) -> None:
    config = {
        "clusters": [
            {"name": "ours", "cluster": {"server": server}},
            {"name": "theirs", "cluster": {"server": server}},
        ],
        "contexts": [
            {"name": "work", "context": {"cluster": "theirs", "user": "u"}},
            {"name": "kind-x", "context": {"cluster": "ours", "user": "u"}},
        ],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    lead_to(path, "kind-x", host)
    ours, theirs = yaml.safe_load(path.read_text())["clusters"]
    assert ours["cluster"]["server"] == led
    assert theirs["cluster"]["server"] == server
