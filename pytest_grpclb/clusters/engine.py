"""What runs containers: docker, or what stands in for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_grpclb.errors import ClusterUnavailableError, CommandError, OptionError

__all__ = ["Engine", "find_engine", "full_name", "run"]

_ENGINE_VARIABLE = "KIND_EXPERIMENTAL_PROVIDER"
_ENGINES = ("docker", "podman", "nerdctl")
"""In the order in which kind itself looks for them."""
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

    def cgroup_version(self) -> int | None:
        """Return 1 or 2: which control groups containers get; None: it does not say.

        :source: docker(1), ``docker info``; podman-info(1); nerdctl has Docker's fields
        """
        field = ".Host.CgroupsVersion" if self.name == "podman" else ".CgroupVersion"
        try:
            told = self.run("info", f"--format={{{{{field}}}}}", timeout_s=_ANSWER_S)
        except CommandError:
            return None
        return {"1": 1, "2": 2}.get(told.strip().removeprefix("v"))

    def save(self, image: str, archive: str) -> None:
        """Write an image to an archive that kind can load, under the name that pods give it.

        Of one platform alone: Docker's containerd image store would put the list of all its
        platforms there, though it has one of them, and kind's nodes then look for the others in
        vain. Podman builds "shop:1" as localhost/shop:1, and would save it so, while in a pod that
        is docker.io/library/shop:1.

        :raises CommandError: if it cannot
        :raises OptionError: if podman has two images that pods might mean by the name
        :source: containerd, ``ctr images import``, by which kind loads its nodes; Docker Engine API
            1.48, "Export an image"
        """
        if self.name == "docker":
            about = "--format={{.Os}}/{{.Architecture}}"
            platform = self.run("image", "inspect", about, image).strip()
            with contextlib.suppress(CommandError):  # Docker before 28 has no such flag
                self.run("image", "save", f"--platform={platform}", f"--output={archive}", image)
                return
        if self.name == "podman" and (full := full_name(image)) != image:
            self._save_as(full, image, archive)
        else:
            self.run("image", "save", f"--output={archive}", image)

    def _save_as(self, full: str, image: str, archive: str) -> None:
        """Save an image under its full name, which it has for as long as that takes."""
        same = "--format={{.Id}}"
        has_full = self.has_image(full)
        if has_full:
            ids = [self.run("image", "inspect", same, name).strip() for name in (image, full)]
            if ids[0] != ids[1]:
                raise OptionError(
                    "--grpclb-load-image",
                    image,
                    expected=f"one image of that name: podman has {ids[0][:12]} under it and "
                    f"{ids[1][:12]} as {full}, which pods mean by it; give the full name of the "
                    "one that is wanted, and name that in the pods, too",
                )
        else:
            self.run("tag", image, full)
        try:
            self.run("image", "save", f"--output={archive}", full)
        finally:
            if not has_full:
                self.run("untag", image, full)


def full_name(image: str) -> str:
    """Return an image's name with its registry, as container runtimes read one without.

    :source: distribution/reference, ``ParseNormalizedNamed``, which containerd's CRI goes by
    """
    first, slash, _ = image.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


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
