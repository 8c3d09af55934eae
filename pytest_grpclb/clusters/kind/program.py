"""The program kind: found, or downloaded, in a version that knows the nodes of this release."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.engine import run
from pytest_grpclb.errors import ClusterUnavailableError, CommandError

if TYPE_CHECKING:
    from subprocess import CompletedProcess

__all__ = ["KIND_VERSION", "check_ready", "find_kind"]

KIND_VERSION = "v0.31.0"
"""The release whose own node image is Kubernetes 1.35, the newest that ingress-nginx supports."""
_KIND_SHA256 = {
    "x86_64": ("amd64", "eb244cbafcc157dff60cf68693c14c9a75c4e6e6fedaf9cd71c58117cb93e3fa"),
    "aarch64": ("arm64", "8e1014e87c34901cc422a1445866835d1e666f2a61301c27e722bdeab5a1f7e4"),
}
""":source: kind, release v0.31.0, kind-linux-*.sha256sum"""
_KIND_URL = "https://github.com/kubernetes-sigs/kind/releases/download/{version}/kind-linux-{arch}"
_KIND_VARIABLE = "GRPCLB_KIND_BIN"
_LEAST = (0, 27, 0)
"""What loads images into nodes with containerd 2; older ones create the cluster, and fail then with
"failed to detect containerd snapshotter".

:source: kind, release notes of v0.27.0
"""
_NOT_READY = "Timed out waiting for Ready"
"""In what kind says, and no more: it ends as if all were well.

:source: kind, ``pkg/cluster/internal/create/actions/waitforready``
"""
_DOWNLOAD_S = 60.0
_ANSWER_S = 20.0


def find_kind(given: str, *, any_version: bool = False) -> Path:
    """Return the program kind: the one given, or of the environment, or in PATH; else download it.

    One in PATH that is too old is passed over.

    :param given: by the option ``--kind-bin`` of pytest-kind
    :param any_version: whether one that the user names may be older than the nodes of this release
    :raises ClusterUnavailableError: if there is none where it should be, and none can be had
    """
    for source, value in (
        ("--kind-bin", given),
        (_KIND_VARIABLE, os.environ.get(_KIND_VARIABLE, "")),
    ):
        if value:
            found = shutil.which(value)
            if found is None:
                raise ClusterUnavailableError(
                    "kind",
                    reason=f"{source} is {value!r}, which is no program",
                    advice="give the path of kind, or leave it out to have it found",
                )
            program = Path(found).absolute()
            unfit = "" if any_version else _unfit(program)
            if unfit:
                raise ClusterUnavailableError(
                    "kind",
                    reason=f"{source} is {value!r}, and {unfit}",
                    advice=f"give the path of kind {_text(_LEAST)} or newer, leave it out to have "
                    "one found or downloaded, or name a node image of its own release with "
                    "--grpclb-kind-image",
                )
            return program
    found = shutil.which("kind")
    if found is None:
        return _download("kind is not in PATH")
    program = Path(found).absolute()
    unfit = _unfit(program)
    return _download(unfit) if unfit else program


def check_ready(created: CompletedProcess[str], waited_s: int) -> None:
    """Raise if what kind said of a cluster that it has created is that no node got ready.

    :raises CommandError: with what kind said
    """
    if _NOT_READY in created.stderr:
        what = (
            f"has no ready node after {waited_s} s; see its nodes' logs (--grpclb-artifacts), or "
            "have the machine do less"
        )
        raise CommandError(created.args, what=what, output=created.stderr.strip())


def _unfit(program: Path) -> str:
    """Return why a kind cannot be used; empty: it can, as far as it tells its version."""
    try:
        told = run(program, "version", timeout_s=_ANSWER_S).stdout.strip()
    except CommandError as error:
        lines = error.output.splitlines()
        return f"`{program} version` {error.what}" + (f": {lines[0]}" if lines else "")
    found = re.search(r"\bv(\d+)\.(\d+)\.(\d+)", told)
    if found is None or tuple(map(int, found.groups())) >= _LEAST:
        return ""
    return (
        f"{program} is kind {found[0]}, older than {_text(_LEAST)}, the first that can load images "
        "into nodes of this release"
    )


def _text(version: tuple[int, ...]) -> str:
    return "v" + ".".join(map(str, version))


def _download(why: str) -> Path:
    """Return kind from the user's cache, where it is put after its digest was checked.

    :param why: there is none to use without that
    """
    machine = platform.machine()
    advice = f"install kind {_text(_LEAST)} or newer, or use --grpclb-cluster=embedded"
    if machine not in _KIND_SHA256 or platform.system() != "Linux":
        reason = f"{why}, and none is downloaded for {platform.system()} on {machine}"
        raise ClusterUnavailableError("kind", reason=reason, advice=advice)
    arch, digest = _KIND_SHA256[machine]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-grpclb"
    target = cache / f"kind-{KIND_VERSION}"
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == digest:
        return target
    url = _KIND_URL.format(version=KIND_VERSION, arch=arch)
    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_S) as answer:  # noqa: S310 - https, fixed
            program = answer.read()
    except (OSError, urllib.error.URLError) as error:
        reason = f"{why}, and downloading {url} failed: {error}"
        raise ClusterUnavailableError("kind", reason=reason, advice=advice) from error
    seen = hashlib.sha256(program).hexdigest()
    if seen != digest:
        reason = f"{url} has the SHA-256 {seen}, not {digest}"
        raise ClusterUnavailableError("kind", reason=reason, advice=advice)
    cache.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(program)
    part.chmod(0o755)
    part.replace(target)
    return target
