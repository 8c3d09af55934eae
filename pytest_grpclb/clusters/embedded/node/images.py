"""Images: embedded, each stands for a command of this machine.

``pytest-grpclb``, whatever its registry and tag, is this package's own programs, and
``envoyproxy/envoy`` the Envoy of this machine. Others are what the user maps them to, with ``{ip}``
and ``{port}`` standing for the pod's address and the container's port for calls, ``{root}`` for the
directory that has the container's mounts. A container's
``command`` takes the place of an image's own, as in Kubernetes. But one by a path at which this
machine has nothing is a program that the image would bring along: what that is mapped to stands for
it as well.

Pods are processes that share the machine's ports, so one that listens on all addresses takes its
port from all pods. A command with ``{port}`` and no ``{ip}`` may do so: ``{port}`` is then another
one for each of its processes, and what arrives at the pod's own port is led there.

:source: Kubernetes documentation, "Define a Command and Arguments for a Container"
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.node import envoy
from pytest_grpclb.clusters.embedded.node.listening import free_port
from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["OWN_IMAGE", "CommandLine", "ImageError", "Images", "port_of_calls"]

OWN_IMAGE = "pytest-grpclb"


class ImageError(GrpclbError):
    """Nothing on this machine stands for a container's image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What a container runs: a program of this package with its flags, or an executable."""

    arguments: tuple[str, ...]
    own: bool
    private_port: int | None = None
    """Where it really listens, on all addresses, in place of the container's port for calls."""


def port_of_calls(container: Object) -> int | None:
    """Return the container port named "grpc", or else the first; None: it declares none."""
    ports = [each for each in container.get("ports") or () if each.get("protocol", "TCP") == "TCP"]
    named = [each for each in ports if each.get("name") == "grpc"]
    found: int | None = next((each["containerPort"] for each in (*named, *ports)), None)
    return found


class Images:
    """What the images of one cluster stand for."""

    def __init__(self, mapped: Mapping[str, Sequence[str]]) -> None:
        self._mapped = mapped

    def stands_for_envoy(self, image: str) -> bool:
        """Tell whether *image* is the Envoy of this machine, under any registry and tag."""
        names = _names(image)
        mapped = any(name in self._mapped for name in names)
        return not mapped and f"/{names[1]}".endswith(f"/{envoy.IMAGE}")

    def command_line(
        self,
        container: Object,
        *,
        arguments: Sequence[str],
        command: Sequence[str],
        ip: str,
        root: str,
    ) -> CommandLine:
        """Return what a container runs.

        :param arguments: its ``args``, after expansion
        :param command: its ``command``, after expansion; empty: the image's own
        :param root: where its mounts lie
        :raises ImageError: if its image is not known here
        """
        image = container.get("image", "")
        names = _names(image)
        mapped = next((self._mapped[name] for name in names if name in self._mapped), None)
        if self.stands_for_envoy(image):
            return _envoy_line(image, [*command, *arguments], command_given=bool(command))
        if mapped is None and names[-1] != OWN_IMAGE:
            known = ", ".join(sorted({OWN_IMAGE, *self._mapped}))
            raise ImageError(
                f"no command of this machine stands for the image {image!r}, only for: {known}; "
                "map it with the ini option grpclb_embedded_images, or use --grpclb-cluster=kind"
            )
        brought = bool(command) and PurePath(command[0]).is_absolute()
        if command and (mapped is None or not brought or _is_there(command[0])):
            return CommandLine(arguments=(*command, *arguments), own=False)
        if mapped is None:
            return CommandLine(arguments=tuple(arguments), own=True)
        text = " ".join(mapped)
        private_port = free_port() if "{port}" in text and "{ip}" not in text else None
        filled = [
            _filled(part.replace("{root}", root), container, ip, private_port) for part in mapped
        ]
        return CommandLine(arguments=(*filled, *arguments), own=False, private_port=private_port)


def _is_there(path: str) -> bool:
    # Not Path's: below a folder of root's it raises for anybody else.
    return os.path.exists(path)  # noqa: PTH110


def _envoy_line(image: str, arguments: Sequence[str], *, command_given: bool) -> CommandLine:
    if envoy.find_envoy() is None:
        raise ImageError(f"the image {image!r} needs Envoy, which is not here; {envoy.ADVICE}")
    if command_given and PurePath(arguments[0]).name != "envoy":
        return CommandLine(arguments=tuple(arguments), own=False)
    rest = arguments[1:] if command_given else arguments
    return CommandLine(arguments=(*envoy.command(), *rest), own=False)


def _names(image: str) -> list[str]:
    """Return what an image may be mapped by, the most exact first."""
    untagged = image.partition("@")[0]
    head, _, last = untagged.rpartition("/")
    last = last.partition(":")[0]
    return [image, f"{head}/{last}" if head else last, last]


def _filled(part: str, container: Object, ip: str, private_port: int | None) -> str:
    if "{port}" in part:
        port = private_port or port_of_calls(container)
        if port is None:
            raise ImageError(
                f"the command mapped to the image {container['image']!r} has {{port}} in {part!r}, "
                f"but the container {container['name']!r} has no containerPort; give it one"
            )
        part = part.replace("{port}", str(port))
    return part.replace("{ip}", ip)
