"""What images stand for."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.node.images import ImageError, Images

IMAGES = Images(
    {
        "envoyproxy/envoy": ["/opt/envoy", "--bind={ip}"],
        "envoyproxy/envoy:v9": ["/opt/envoy9"],
        "configured": ["serve", "--config={root}/etc/app/x.yaml"],
        "web": ["web", "--listen", "{ip}:{port}"],
    }
)


def line(image: str, *, command: tuple[str, ...] = (), **more: Any) -> tuple[tuple[str, ...], bool]:
    container = {"name": "main", "image": image, "ports": [{"containerPort": 80}], **more}
    made = IMAGES.command_line(
        container,
        arguments=["-x"],
        command=command,
        ip="127.9.1.1",
        root="/roots/main",
    )
    return made.arguments, made.own


@pytest.mark.parametrize(
    "image",
    [
        "pytest-grpclb",
        "pytest-grpclb:1.2",
        "registry.example.com:5000/team/pytest-grpclb:latest",
        "pytest-grpclb@sha256:0123",
    ],
)
def test_the_own_image_is_known_under_any_registry_and_tag(image: str) -> None:
    assert line(image) == (("-x",), True)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("envoyproxy/envoy:v8", ("/opt/envoy", "--bind=127.9.1.1", "-x")),
        ("envoyproxy/envoy:v9", ("/opt/envoy9", "-x")),  # the most exact wins
        ("configured", ("serve", "--config=/roots/main/etc/app/x.yaml", "-x")),
        ("registry:5000/web@sha256:0123", ("web", "--listen", "127.9.1.1:80", "-x")),
    ],
)
def test_a_mapped_image_is_its_command_and_the_arguments(
    image: str, expected: tuple[str, ...]
) -> None:
    assert line(image) == (expected, False)


@pytest.mark.parametrize("image", ["pytest-grpclb", "web:1"])
def test_a_command_takes_the_place_of_the_image_s_own(image: str) -> None:
    assert line(image, command=("sleep",)) == (("sleep", "-x"), False)


def test_what_an_image_is_mapped_to_stands_for_the_programs_in_it() -> None:
    command = ("/app/no-such-server", "--all")
    assert line("web:1", command=command) == (("web", "--listen", "127.9.1.1:80", "-x"), False)
    # What cannot even be asked for, as all below /root by others than root, is not there either.
    beyond = f"/{'x' * 300}"
    assert line("web:1", command=(beyond,)) == (("web", "--listen", "127.9.1.1:80", "-x"), False)
    assert line("pytest-grpclb", command=command) == ((*command, "-x"), False)
    assert line("web:1", command=("/bin/sh",)) == (("/bin/sh", "-x"), False)
    assert line("web:1", command=("no-such-server",)) == (("no-such-server", "-x"), False)


def test_an_unknown_image_is_refused_with_what_to_do() -> None:
    with pytest.raises(ImageError) as caught:
        line("redis:7", command=("redis-server",))
    assert str(caught.value) == (
        "no command of this machine stands for the image 'redis:7', only for: configured, "
        "envoyproxy/envoy, envoyproxy/envoy:v9, pytest-grpclb, web; map it with the ini option "
        "grpclb_embedded_images, or use --grpclb-cluster=kind"
    )


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"name": "metrics", "containerPort": 9}, {"name": "grpc", "containerPort": 8}], 8),
        ([{"name": "metrics", "containerPort": 9}, {"containerPort": 8}], 9),
        ([{"containerPort": 9, "protocol": "UDP"}, {"containerPort": 8, "protocol": "TCP"}], 8),
    ],
)
def test_the_port_for_calls_is_the_one_named_grpc_or_the_first(
    ports: list[dict[str, Any]], expected: int
) -> None:
    assert line("web", ports=ports)[0][2] == f"127.9.1.1:{expected}"


def test_a_port_is_needed_where_the_mapping_has_one() -> None:
    with pytest.raises(ImageError) as caught:
        line("web", ports=[])
    assert str(caught.value) == (
        "the command mapped to the image 'web' has {port} in '{ip}:{port}', but the container "
        "'main' has no containerPort; give it one"
    )
