"""A pod's files: its volumes, and where its containers find them.

Processes on one machine share one file system, so a mount cannot put a volume at ``/etc/shop``
for one of them alone. Each container has a root directory of its own instead, in which its mounts
lie under their mount paths. It is in the variable ``GRPCLB_ROOT``; and wherever a mount path begins
a path in the container's ``command``, ``args`` or ``env`` values, it is replaced by where the mount
really lies. In a command that an image is mapped to, ``{root}`` stands for it. Paths inside mounted
files, and those that a program has by itself, stay as they are: write them relative, or give them
as arguments. Mounts that nothing names are told by an event.

:source: Kubernetes documentation, "Volumes", "Projected Volumes"
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_grpclb.clusters.embedded.node.environment import ConfigError, config_data, field_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["SERVICE_ACCOUNT", "File", "Mounts", "PodDirectory", "files_of"]

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where clients in a pod look for their token, certificate authority and namespace."""
_ACCOUNT_VOLUME = ".service-account"
"""No volume of a pod can have this name, for names begin with a letter or digit."""
_DATA_MODE = 0o644


class File(NamedTuple):
    """A file that a volume brings along."""

    path: str
    content: bytes
    mode: int = _DATA_MODE


class Mounts:
    """Where the mounts of one container lie."""

    def __init__(self, root: Path, paths: Mapping[str, Path]) -> None:
        """Remember them.

        :param root: the container's own root directory
        :param paths: where each mount path leads
        """
        self.root = root
        self._paths = paths
        longest_first = sorted(paths, key=len, reverse=True)
        alternatives = "|".join(re.escape(path) for path in longest_first)
        # A path begins where no other path goes on, and ends at a whole component.
        self._pattern = re.compile(rf"(?<![\w./-])({alternatives})(?![\w.-])") if paths else None

    def unnamed(self, texts: Iterable[str]) -> dict[str, Path]:
        """Return where those mounts lie that no text names, by mount path."""
        told = "\n".join(texts)
        return {path: where for path, where in self._paths.items() if str(where) not in told}

    def rewrite(self, text: str) -> str:
        """Return *text* with mount paths replaced by where they lead."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: str(self._paths[found[1]]), text)


class PodDirectory:
    """The directory that holds all files of one pod."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._volumes = path / "volumes"
        self._scratches = 0

    def remove(self) -> None:
        """Delete it, and the pod's files with it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def log(self, container: str, run: int) -> Path:
        """Return the file that a container's output goes to in its *run*-th life, from 0."""
        directory = self.path / "logs" / container
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{run}.log"

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Lend a file that does not exist yet and is deleted afterwards."""
        self._scratches += 1
        file = self.path / f"{name}.{self._scratches}"
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def prepare(self, store: Store, pod: Object, account: Mapping[str, bytes]) -> None:
        """Make the pod's volumes.

        :param account: the files of its service account; none if it is not to have them
        :raises ConfigError: if a volume's source is not there, or of a kind that is not known here
        """
        self._volumes.mkdir(parents=True, exist_ok=True)
        for volume in pod["spec"].get("volumes") or ():
            where = self._volumes / volume["name"]
            if "hostPath" in volume:
                where.unlink(missing_ok=True)
                where.symlink_to(volume["hostPath"]["path"])
                continue
            where.mkdir(exist_ok=True)
            for file in files_of(store, pod, volume, account):
                _write(where, file)
        if account:
            where = self._volumes / _ACCOUNT_VOLUME
            where.mkdir(exist_ok=True)
            for name, content in account.items():
                _write(where, File(name, content, 0o600))

    def mounts(self, pod: Object, container: Object, *, account: bool) -> Mounts:
        """Lay out a container's mounts and say where they are.

        :raises ConfigError: if one names a volume that the pod has not
        """
        root = self.path / "roots" / container["name"]
        root.mkdir(parents=True, exist_ok=True)
        names = {volume["name"] for volume in pod["spec"].get("volumes") or ()}
        paths = {}
        for mount in container.get("volumeMounts") or ():
            if mount["name"] not in names:
                raise ConfigError(
                    f'volumeMount "{mount["name"]}" of container "{container["name"]}": '
                    "the pod has no volume of that name"
                )
            source = self._volumes / mount["name"] / mount.get("subPath", "")
            paths[mount["mountPath"].rstrip("/")] = source
        if account:
            paths.setdefault(SERVICE_ACCOUNT, self._volumes / _ACCOUNT_VOLUME)
        for path, source in paths.items():
            link = root / path.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(source)
        return Mounts(root, {path: root / path.lstrip("/") for path in paths})


def files_of(
    store: Store, pod: Object, volume: Mapping[str, Any], account: Mapping[str, bytes]
) -> Iterator[File]:
    """Yield the files that a volume begins with.

    :raises ConfigError: if its source is not there, or of a kind that is not known here
    """
    projected = volume.get("projected")
    if projected is None:
        yield from _source_files(store, pod, volume, account, {})
        return
    mode = {"defaultMode": projected.get("defaultMode", _DATA_MODE)}
    for source in projected.get("sources") or ():
        yield from _source_files(store, pod, source, account, mode)


def _source_files(
    store: Store,
    pod: Object,
    source: Mapping[str, Any],
    account: Mapping[str, bytes],
    defaults: Mapping[str, Any],
) -> Iterator[File]:
    for field, kind in (("configMap", "configmaps"), ("secret", "secrets")):
        if field in source:
            yield from _config_files(store, kind, pod, {**defaults, **source[field]})
            return
    if "downwardAPI" in source:
        yield from _downward_files(pod, source["downwardAPI"])
    elif "serviceAccountToken" in source:
        yield File(source["serviceAccountToken"]["path"], account.get("token", b""), 0o600)
    elif "emptyDir" not in source:
        kinds = ", ".join(sorted(source.keys() - {"name"})) or "none"
        raise ConfigError(
            f'volume "{source.get("name", "")}" is of the kind {kinds}; the embedded cluster '
            "knows emptyDir, configMap, secret, downwardAPI, projected and hostPath"
        )


def _config_files(
    store: Store, kind: str, pod: Object, source: Mapping[str, Any]
) -> Iterator[File]:
    name = source.get("name") or source["secretName"]  # projected secrets have the former
    optional, namespace = bool(source.get("optional")), pod["metadata"]["namespace"]
    mode = source.get("defaultMode", _DATA_MODE)
    data = config_data(store, kind, namespace, name, optional=optional)
    if data is None:
        return
    items = source.get("items")
    if items is None:
        yield from (File(key, content, mode) for key, content in data.items())
        return
    for item in items:
        if item["key"] in data:
            yield File(item["path"], data[item["key"]], item.get("mode", mode))
        elif not optional:
            raise ConfigError(
                f'{kind.removesuffix("s")} "{name}" has no key "{item["key"]}", wanted by a volume'
            )


def _downward_files(pod: Object, source: Mapping[str, Any]) -> Iterator[File]:
    for item in source.get("items") or ():
        if "fieldRef" not in item:
            raise ConfigError(
                f'downwardAPI item "{item["path"]}": the embedded cluster knows fieldRef only'
            )
        yield File(item["path"], field_of(pod, item["fieldRef"]["fieldPath"]).encode())


def _write(directory: Path, file: File) -> None:
    path = directory / file.path
    if ".." in Path(file.path).parts:
        raise ConfigError(f'path "{file.path}" in a volume must not contain ".."')
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    # Never readable for others, not even for a moment, whatever mode it is to have.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as writer:
        writer.write(file.content)
    part.chmod(file.mode)
    part.replace(path)
