from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.engine import Engine, find_engine, full_name, run
from pytest_grpclb.errors import ClusterUnavailableError, CommandError, OptionError

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
    """Nothing is found but what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("KIND_EXPERIMENTAL_PROVIDER", raising=False)


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
    image = "docker.io/library/shop:1"
    Engine(name=name, program=program).save(image, "a.tar")
    asked = (tmp_path / "asked").read_text().splitlines()
    plain = f"image save --output=a.tar {image}"
    assert (
        asked
        == {
            "docker": [
                f"image inspect --format={{{{.Os}}}}/{{{{.Architecture}}}} {image}",
                f"image save --platform=linux/arm64 --output=a.tar {image}",
            ],
            "podman": [plain],
        }[name]
    )


@pytest.mark.parametrize(
    ("name", "field", "told", "version"),
    [
        ("docker", ".CgroupVersion", "1", 1),
        ("docker", ".CgroupVersion", "2", 2),
        ("nerdctl", ".CgroupVersion", "2", 2),
        ("podman", ".Host.CgroupsVersion", "v1", 1),
        ("podman", ".Host.CgroupsVersion", "v2", 2),
        ("docker", ".CgroupVersion", "", None),
    ],
)
def test_each_engine_is_asked_for_control_groups_in_its_own_words(
    tmp_path: Path, name: str, field: str, told: str, version: int | None
) -> None:
    asked = f"info --format={{{{{field}}}}}"
    path = program(tmp_path / "bin", name, f'[ "$*" = "{asked}" ] && echo "{told}"')
    assert Engine(name=name, program=path).cgroup_version() == version


def test_an_engine_that_knows_no_control_groups_says_nothing_of_them(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "docker", "exit 1")
    assert Engine(name="docker", program=path).cgroup_version() is None


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("shop:1", "docker.io/library/shop:1"),
        ("team/shop:1", "docker.io/team/shop:1"),
        ("localhost/shop:1", "localhost/shop:1"),
        ("localhost:5000/shop:1", "localhost:5000/shop:1"),
        ("registry.example.org/team/shop:1", "registry.example.org/team/shop:1"),
    ],
)
def test_a_name_without_a_registry_is_docker_hubs(image: str, full: str) -> None:
    assert full_name(image) == full


PODMAN = """
echo "$*" >> "$0.asked"
case "$*" in
  "image inspect --format={{.Id}} shop:1") echo 1111111111111111;;
  "image inspect --format={{.Id}} docker.io/library/shop:1") %s;;
esac
"""


def test_podman_saves_what_it_calls_localhost_under_the_name_that_pods_give_it(
    tmp_path: Path,
) -> None:
    path = program(tmp_path / "bin", "podman", PODMAN % "exit 125")
    Engine(name="podman", program=path).save("shop:1", "a.tar")
    full = "docker.io/library/shop:1"
    assert path.with_name("podman.asked").read_text().splitlines()[1:] == [
        f"tag shop:1 {full}",
        f"image save --output=a.tar {full}",
        f"untag shop:1 {full}",
    ]


def test_podman_keeps_the_name_of_an_image_that_it_has_had_before(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "podman", PODMAN % "echo 1111111111111111")
    Engine(name="podman", program=path).save("shop:1", "a.tar")
    asked = path.with_name("podman.asked").read_text()
    assert asked.splitlines()[-1] == "image save --output=a.tar docker.io/library/shop:1"
    assert "tag" not in asked


def test_podman_is_not_asked_to_save_one_of_two_images_that_pods_may_mean(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "podman", PODMAN % "echo 2222222222222222")
    with pytest.raises(OptionError) as caught:
        Engine(name="podman", program=path).save("shop:1", "a.tar")
    assert str(caught.value) == (
        "--grpclb-load-image: 'shop:1' cannot be used; expected one image of that name: podman has "
        "111111111111 under it and 222222222222 as docker.io/library/shop:1, which pods mean by "
        "it; give the full name of the one that is wanted, and name that in the pods, too"
    )
