"""What becomes of an Envoy's bootstrap and arguments where pods share a machine."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.node import envoy
from pytest_grpclb.clusters.embedded.node.envoy import find_envoy, localized, main
from pytest_grpclb.clusters.embedded.node.images import ImageError, Images

if TYPE_CHECKING:
    from pathlib import Path

DNS = ("127.9.0.10", 53)
RESOLVER = {
    "name": "envoy.network.dns_resolver.cares",
    "typed_config": {
        "@type": "type.googleapis.com/"
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [{"socket_address": {"address": "127.9.0.10", "port_value": 53}}],
        "dns_resolver_options": {"no_default_search_domain": True},
    },
}


def place(address: str, key: str = "socket_address") -> dict[str, Any]:
    return {key: {"address": address, "port_value": 80}}


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "localhost", "::1", "::"])
@pytest.mark.parametrize("key", ["socket_address", "socketAddress"])
def test_what_means_this_pod_becomes_its_address(address: str, key: str) -> None:
    bootstrap = {"admin": {"address": place(address, key)}, "lists": [[place(address, key)]]}
    own = place("127.9.1.5", key)
    expected = {"admin": {"address": own}, "lists": [[own]]}
    assert localized(bootstrap, ip="127.9.1.5", dns=None) == expected
    assert bootstrap["admin"] == {"address": place(address, key)}  # what was given stays


@pytest.mark.parametrize(
    "elsewhere", [place("10.0.0.1"), place("shop.ns.svc"), {"address": "127.0.0.1"}, {"pipe": {}}]
)
def test_other_places_stay(elsewhere: dict[str, Any]) -> None:
    assert localized([elsewhere], ip="127.9.1.5", dns=None) == [elsewhere]


def test_names_are_asked_of_the_clusters_dns_unless_the_bootstrap_says_of_whom() -> None:
    assert localized({}, ip="127.9.1.5", dns=DNS) == {"typed_dns_resolver_config": RESOLVER}
    own = {"typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.getaddrinfo"}}
    assert localized(own, ip="127.9.1.5", dns=DNS) == own


@pytest.mark.parametrize("nonsense", [None, "text", 7, []])
def test_what_is_no_bootstrap_stays_for_envoy_to_refuse(nonsense: Any) -> None:
    assert localized(nonsense, ip="127.9.1.5", dns=DNS) == nonsense


# --- becoming Envoy


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would have been executed, in a container whose root is the test's directory."""
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: calls.append(arguments[1:]))
    monkeypatch.setenv("GRPCLB_ROOT", str(tmp_path))
    monkeypatch.setenv("GRPCLB_LISTEN_IP", "127.9.1.5")
    monkeypatch.setenv("GRPCLB_CLUSTER_DNS", "127.9.0.10:53")
    return calls


@pytest.mark.parametrize("flags", [["-c", "{}"], ["--config-path", "{}"], ["--config-path={}"]])
def test_envoy_reads_a_bootstrap_of_the_pods_own(
    executed: list[list[str]], tmp_path: Path, flags: list[str]
) -> None:
    given = tmp_path / "given.yaml"
    given.write_text("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}}")
    main(["--concurrency", "2", *(flag.format(given) for flag in flags)])
    own = tmp_path / "envoy.json"
    assert executed == [
        ["--config-path", str(own), "--concurrency", "2", "--use-dynamic-base-id"],
    ]
    assert json.loads(own.read_text()) == {
        "typed_dns_resolver_config": RESOLVER,
        "admin": {"address": place("127.9.1.5")},
    }


def test_without_a_path_it_is_the_images_own(executed: list[list[str]], tmp_path: Path) -> None:
    given = tmp_path / "etc" / "envoy" / "envoy.yaml"
    given.parent.mkdir(parents=True)
    given.write_text("{}")
    main([])
    assert json.loads((tmp_path / "envoy.json").read_text()).keys() == {"typed_dns_resolver_config"}


@pytest.mark.parametrize("text", [None, "{", "\x00"])
def test_what_cannot_be_read_is_left_to_envoy(
    executed: list[list[str]], tmp_path: Path, text: str | None
) -> None:
    given = tmp_path / "given.yaml"
    if text is not None:
        given.write_text(text)
    main(["-c", str(given)])
    assert executed == [["--config-path", str(given), "--use-dynamic-base-id"]]


@pytest.mark.parametrize("flag", ["--base-id=3", "--use-dynamic-base-id"])
def test_a_base_id_that_is_given_stays(executed: list[list[str]], flag: str) -> None:
    main([flag, "-c", "/no/such"])
    assert executed == [["--config-path", "/no/such", flag]]


def test_without_envoy_it_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "find_envoy", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == (
        "there is no envoy on this machine; install it with: pip install 'pytest-grpclb[envoy]'"
    )


def test_without_the_wheel_the_one_in_path_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheels = find_envoy()
    assert wheels is not None
    assert wheels.parts[-3:] == ("envoy", "_bin", "envoy")
    monkeypatch.setattr(envoy, "_WHEEL", "no_such_module")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy() is None
    program = tmp_path / "envoy"
    program.touch(mode=0o755)
    assert find_envoy() == program


# --- as an image


def line(image: str, *, command: tuple[str, ...] = (), images: Images | None = None) -> list[str]:
    made = (images or Images({})).command_line(
        {"name": "main", "image": image},
        arguments=["-x"],
        command=command,
        ip="127.9.1.5",
        root="/roots/main",
    )
    assert not made.own
    return list(made.arguments)


@pytest.mark.parametrize(
    "image", ["envoyproxy/envoy", "envoyproxy/envoy:v1.40.0", "docker.io/envoyproxy/envoy:dev@x:1"]
)
@pytest.mark.parametrize("command", [(), ("envoy",), ("/usr/local/bin/envoy",)])
def test_the_image_is_the_envoy_of_this_machine(image: str, command: tuple[str, ...]) -> None:
    assert line(image, command=command) == [*envoy.command(), "-x"]


def test_other_commands_of_the_image_are_what_they_are() -> None:
    assert line("envoyproxy/envoy", command=("/bin/sh", "-c")) == ["/bin/sh", "-c", "-x"]


def test_what_the_user_maps_it_to_comes_first() -> None:
    assert line("envoyproxy/envoy:1", images=Images({"envoyproxy/envoy": ["mine"]})) == [
        "mine",
        "-x",
    ]


def test_another_image_of_that_name_is_not_it() -> None:
    with pytest.raises(ImageError, match="no command of this machine stands for the image"):
        line("myenvoyproxy/envoy")


def test_without_envoy_the_image_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "find_envoy", lambda: None)
    with pytest.raises(ImageError) as caught:
        line("envoyproxy/envoy:v1")
    assert str(caught.value) == (
        "the image 'envoyproxy/envoy:v1' needs Envoy, which is not here; "
        "install it with: pip install 'pytest-grpclb[envoy]'"
    )
