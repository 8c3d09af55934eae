"""The images of a kind cluster's pods: built, saved and loaded, by stand-ins of the programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.errors import OptionError

from .kind_runs import begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.clusters.kind.provider import KindProvider

    from .stand_ins import StandIns


def test_images_are_loaded_by_archive_once_a_run(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    stand_ins.set(images=["shop/server:1", "programs:7"])
    cluster = begin(provider(image="programs:7", load_images=("shop/server:1", "programs:7")))
    assert cluster.programs_image == "programs:7"
    assert stand_ins.get()["loaded"] == ["programs:7", "shop/server:1"]
    assert stand_ins.asked("docker build") == []
    assert all("image-archive" in line for line in stand_ins.asked("kind load"))


def test_an_image_that_is_named_by_its_digest_is_left_for_the_nodes_to_pull(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    """By an archive it would come without that digest, and nobody would find it."""
    stand_ins.set(images=["shop/server:1"])
    name = "registry.example.org/programs@sha256:" + "0" * 64
    cluster = begin(provider(image=name, load_images=("shop/server:1",)))
    assert cluster.programs_image == name
    assert stand_ins.get()["loaded"] == ["shop/server:1"]


def test_the_image_is_built_on_the_base_that_is_named(
    provider: Callable[..., KindProvider], stand_ins: StandIns
) -> None:
    begin(provider(base_image="mirror.example.org/python:3.11-slim"))
    [asked] = stand_ins.asked("docker build")
    assert " --build-arg=BASE=mirror.example.org/python:3.11-slim " in asked


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            {"image": "programs:7"},
            "--grpclb-image: 'programs:7' cannot be used; expected an image that docker has; "
            "`docker pull programs:7` fetches it",
        ),
        (
            {"load_images": ("shop/server:1",)},
            "--grpclb-load-image: 'shop/server:1' cannot be used; expected an image that docker "
            "has; `docker pull shop/server:1` fetches it",
        ),
    ],
)
def test_an_image_that_is_not_there_is_named(
    provider: Callable[..., KindProvider],
    stand_ins: StandIns,
    what: dict[str, object],
    message: str,
) -> None:
    cluster = provider(**what)
    cluster.start()
    with pytest.raises(OptionError) as caught:
        cluster.wait()
    assert str(caught.value) == message
    cluster.close()
    assert stand_ins.get()["clusters"] == {}


def test_podmans_images_are_loaded_under_the_names_that_pods_give_them(
    provider: Callable[..., KindProvider], stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    mine = ["localhost/shop:1", "docker.io/library/other:2", "registry.example.org/third:3"]
    stand_ins.set(images=mine)
    cluster = begin(provider(load_images=("shop:1", "other:2", "registry.example.org/third:3")))
    assert stand_ins.get()["loaded"] == [
        cluster.programs_image,
        "docker.io/library/shop:1",
        "docker.io/library/other:2",
        "registry.example.org/third:3",
    ]
    assert stand_ins.get()["images"] == [*mine, cluster.programs_image]


@pytest.mark.parametrize("world", [{"containerd_store": True}, {"docker_is_old": True}])
def test_images_are_loaded_whatever_docker_keeps_them_in(
    provider: Callable[..., KindProvider], stand_ins: StandIns, world: dict[str, bool]
) -> None:
    stand_ins.set(images=["shop:1"], **world)
    cluster = begin(provider(load_images=("shop:1",)))
    assert stand_ins.get()["loaded"] == [cluster.programs_image, "shop:1"]
