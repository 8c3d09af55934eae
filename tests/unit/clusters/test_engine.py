from __future__ import annotations

import platform
import urllib.request
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.engine import KIND_VERSION, Engine, find_engine, find_kind, run
from pytest_grpclb.errors import ClusterUnavailableError, CommandError

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, name: str, script: str = "exit 0") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found but what the test puts there; nothing is downloaded."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("KIND_EXPERIMENTAL_PROVIDER", "GRPCLB_KIND_BIN"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_kind_is_found_by_option_then_environment_then_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, variable, path = (
        program(tmp_path / where, "kind") for where in ("option", "variable", "bin")
    )
    assert find_kind("") == path
    monkeypatch.setenv("GRPCLB_KIND_BIN", str(variable))
    assert find_kind("") == variable
    assert find_kind(str(option)) == option


def test_kind_is_downloaded_last_and_taken_only_with_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    url = (
        f"https://github.com/kubernetes-sigs/kind/releases/download/{KIND_VERSION}/kind-linux-amd64"
    )
    advice = f"install kind {KIND_VERSION} or newer, or use --grpclb-cluster=embedded"
    with pytest.raises(ClusterUnavailableError) as caught:
        find_kind("")
    assert str(caught.value) == (
        "cluster provider 'kind' cannot be used here: kind is not in PATH, and downloading "
        f"{url} failed: no network; {advice}"
    )
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: BytesIO(b"evil"))
    with pytest.raises(ClusterUnavailableError, match=r"has the SHA-256 .*, not eb244cba"):
        find_kind("")
    assert not (tmp_path / "cache").exists()


def test_kind_is_not_downloaded_for_machines_that_it_is_not_made_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ClusterUnavailableError, match="not downloaded for Linux on riscv64"):
        find_kind("")


def test_a_kind_that_is_no_program_is_named_with_who_named_it() -> None:
    with pytest.raises(ClusterUnavailableError) as caught:
        find_kind("/no/such/kind")
    assert str(caught.value) == (
        "cluster provider 'kind' cannot be used here: --kind-bin is '/no/such/kind', which is no "
        "program; give the path of kind, or leave it out to have it found"
    )


def test_the_engine_is_the_first_that_is_there_or_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "podman")
    assert find_engine("kind").name == "podman"
    program(tmp_path / "bin", "docker")
    assert find_engine("kind").name == "docker"
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    assert find_engine("kind").program == tmp_path / "bin" / "podman"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("", "there is no docker or podman or nerdctl in PATH"),
        ("podman", "there is no podman in PATH"),
        ("lxc", "KIND_EXPERIMENTAL_PROVIDER is 'lxc'"),
    ],
)
def test_an_engine_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, wanted: str, reason: str
) -> None:
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", wanted)
    with pytest.raises(ClusterUnavailableError) as caught:
        find_engine("kind")
    assert caught.value.reason == reason


def test_timed_out_failed_and_not_there_are_three_errors(tmp_path: Path) -> None:
    slow = program(tmp_path / "bin", "slow", "while :; do :; done")
    with pytest.raises(CommandError) as caught:
        run(slow, "--fast", timeout_s=0.1)
    assert str(caught.value) == f"`{slow} --fast` had not ended after 0.1 s"
    fails = program(tmp_path / "bin", "fails", "echo said; echo why >&2; exit 7")
    with pytest.raises(CommandError) as caught:
        run(fails)
    assert str(caught.value) == f"`{fails}` ended with exit code 7; it said:\nwhy\nsaid"
    with pytest.raises(CommandError, match="cannot be run: "):
        run(tmp_path / "bin" / "missing")


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_only_docker_is_told_of_which_platform_an_image_is_saved(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n[ "$2" = save ] || echo linux/arm64\n'
    )
    program.chmod(0o755)
    Engine(name=name, program=program).save("shop:1", "a.tar")
    asked = (tmp_path / "asked").read_text().splitlines()
    plain = "image save --output=a.tar shop:1"
    assert (
        asked
        == {
            "docker": [
                "image inspect --format={{.Os}}/{{.Architecture}} shop:1",
                "image save --platform=linux/arm64 --output=a.tar shop:1",
            ],
            "podman": [plain],
        }[name]
    )
