"""The programs that clusters in containers take: kind, and docker or what stands in for it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from pytest_grpclb.errors import ClusterUnavailableError, CommandError

__all__ = ["KIND_VERSION", "Engine", "find_engine", "find_kind", "run"]

KIND_VERSION = "v0.31.0"
"""The release whose own node image is Kubernetes 1.35, the newest that ingress-nginx supports."""
_KIND_SHA256 = {
    "x86_64": ("amd64", "eb244cbafcc157dff60cf68693c14c9a75c4e6e6fedaf9cd71c58117cb93e3fa"),
    "aarch64": ("arm64", "8e1014e87c34901cc422a1445866835d1e666f2a61301c27e722bdeab5a1f7e4"),
}
""":source: kind, release v0.31.0, kind-linux-*.sha256sum"""
_KIND_URL = "https://github.com/kubernetes-sigs/kind/releases/download/{version}/kind-linux-{arch}"
_KIND_VARIABLE = "GRPCLB_KIND_BIN"
_ENGINE_VARIABLE = "KIND_EXPERIMENTAL_PROVIDER"
_ENGINES = ("docker", "podman", "nerdctl")
"""In the order in which kind itself looks for them."""
_DOWNLOAD_S = 60.0
_ANSWER_S = 20.0
_LAST_LINES = 20


def run(
    program: Path | str, *arguments: str, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said.

    :raises CommandError: if it fails, or takes longer than *timeout_s*
    """
    command = [str(program), *arguments]
    try:
        return subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.CalledProcessError as error:
        said = f"{error.stderr}{error.stdout}".strip().splitlines()[-_LAST_LINES:]
        what = f"ended with exit code {error.returncode}"
        raise CommandError(command, what=what, output="\n".join(said)) from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(command, what=f"had not ended after {timeout_s:g} s") from error
    except OSError as error:
        raise CommandError(command, what=f"cannot be run: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """docker, podman or nerdctl: they take the same arguments where it matters here."""

    name: str
    program: Path

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Run it and return its output.

        :raises CommandError: if it fails
        """
        return run(self.program, *arguments, timeout_s=timeout_s).stdout

    def has_image(self, image: str) -> bool:
        """Tell whether it has an image, so that nothing need be built or pulled."""
        try:
            self.run("image", "inspect", "--format={{.Id}}", image)
        except CommandError:
            return False
        return True

    def save(self, image: str, archive: str) -> None:
        """Write an image to an archive that kind can load, of one platform alone.

        Docker's containerd image store would put the list of all its platforms there, though it has
        one of them, and kind's nodes then look for the others in vain.

        :raises CommandError: if it cannot
        :source: containerd, ``ctr images import``, by which kind loads its nodes; Docker Engine API
            1.48, "Export an image"
        """
        if self.name == "docker":
            about = "--format={{.Os}}/{{.Architecture}}"
            platform = self.run("image", "inspect", about, image).strip()
            with contextlib.suppress(CommandError):  # Docker before 28 has no such flag
                self.run("image", "save", f"--platform={platform}", f"--output={archive}", image)
                return
        self.run("image", "save", f"--output={archive}", image)


def find_engine(provider: str) -> Engine:
    """Return what runs containers here: what ``KIND_EXPERIMENTAL_PROVIDER`` says, or the first.

    :param provider: who asks, for the error
    :raises ClusterUnavailableError: if there is none, or it does not answer
    """
    wanted = os.environ.get(_ENGINE_VARIABLE, "")
    if wanted and wanted not in _ENGINES:
        raise ClusterUnavailableError(
            provider,
            reason=f"{_ENGINE_VARIABLE} is {wanted!r}",
            advice=f"set it to one of {', '.join(_ENGINES)}, or not at all",
        )
    names = (wanted,) if wanted else _ENGINES
    found = next(((name, path) for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise ClusterUnavailableError(
            provider,
            reason=f"there is no {' or '.join(names)} in PATH",
            advice="install Docker, or use --grpclb-cluster=embedded",
        )
    engine = Engine(name=found[0], program=Path(found[1]).absolute())
    try:
        engine.run("ps", "--quiet", timeout_s=_ANSWER_S)
    except CommandError as error:
        lines = error.output.splitlines() or [error.what]
        raise ClusterUnavailableError(
            provider,
            reason=f"{engine.program} does not work: {lines[0]}",
            advice=f"start {engine.name}, or use --grpclb-cluster=embedded",
        ) from error
    return engine


def find_kind(given: str) -> Path:
    """Return the program kind: the one given, or of the environment, or in PATH; else download it.

    :param given: by the option ``--kind-bin`` of pytest-kind
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
            return Path(found).absolute()
    found = shutil.which("kind")
    return Path(found).absolute() if found else _download()


def _download() -> Path:
    """Return kind from the user's cache, where it is put after its digest was checked."""
    machine = platform.machine()
    advice = f"install kind {KIND_VERSION} or newer, or use --grpclb-cluster=embedded"
    if machine not in _KIND_SHA256 or platform.system() != "Linux":
        reason = f"kind is not in PATH, and not downloaded for {platform.system()} on {machine}"
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
        reason = f"kind is not in PATH, and downloading {url} failed: {error}"
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
