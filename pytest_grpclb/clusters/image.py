"""The image of this package's own programs: what goes into it, and how it is built.

Its tag is made from its content, so that an image that exists need not be built again. From the
command line, for a registry: ``python -m pytest_grpclb.clusters.image REPOSITORY:TAG``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement

from pytest_grpclb._version import __version__
from pytest_grpclb.clusters.engine import Engine, find_engine
from pytest_grpclb.errors import CommandError, GrpclbError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["build", "content", "main", "reference"]

_REPOSITORY = "localhost/pytest-grpclb"
"""With a registry that is none: podman would add it by itself, and nothing is ever pulled."""
_NEEDED = ("grpcio", "grpcio-channelz", "grpcio-health-checking", "grpcio-reflection")
"""What the programs import."""
_SOURCES = ("__init__.py", "_version.py", "_pb/*.py", "programs/*.py")
_BASE = f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"
"""With its registry, which podman does not guess. It is this Python: the versions of libraries that
are installed here have wheels for it, too."""


_MODES = {"file": 0o644, "folder": 0o755}
"""Whatever the umask here: the image's user is not who has built it."""
_FROM_ENVIRONMENT = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""What leads the build to its packages. Neither in the tag nor, but for the first stage, in the
image; on the command line without their values, which may hold passwords.

:source: Docker documentation, "docker buildx build", ``--build-arg``; buildah-build(1)
"""


def content(base: str = "") -> Mapping[str, bytes]:
    """Return the files that the image is built from, by their path in the build context.

    :param base: the image to begin with; empty: the one of this Python
    :raises GrpclbError: if a library that the programs need is not installed here
    """
    package = Path(__file__).parent.parent
    sources = sorted(path for pattern in _SOURCES for path in package.glob(pattern))
    return {
        "Dockerfile": Path(__file__).with_name("Dockerfile").read_bytes(),
        "requirements.txt": "\n".join((f"# on {base or _BASE}", *_requirements(), "")).encode(),
        **{f"pytest_grpclb/{path.relative_to(package)}": path.read_bytes() for path in sources},
    }


def reference(files: Mapping[str, bytes]) -> str:
    """Return REPOSITORY:TAG of the image that is built from *files*."""
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return f"{_REPOSITORY}:{__version__}-{digest.hexdigest()[:12]}"


def build(
    engine: Engine,
    image: str,
    files: Mapping[str, bytes],
    *,
    base: str = "",
    platform: str = "",
) -> None:
    """Build *image* from *files*.

    :param base: the image to begin with, which has Python; empty: the one of this Python
    :param platform: of the nodes that it is for, such as linux/arm64; empty: as this machine's
    :raises CommandError: if the engine cannot; with what it said, and what may be set
    """
    with tempfile.TemporaryDirectory(prefix="pytest-grpclb-image-") as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        for path in Path(folder).rglob("*"):
            path.chmod(_MODES["folder" if path.is_dir() else "file"])
        more = [f"--platform={platform}"] if platform else []
        more += [f"--build-arg={name}" for name in _FROM_ENVIRONMENT if os.environ.get(name)]
        try:
            engine.run(
                "build", f"--tag={image}", f"--build-arg=BASE={base or _BASE}", *more, folder
            )
        except CommandError as error:
            what = (
                f"{error.what}, so there is no image of the programs; where the base image, or "
                "Python's packages, cannot be had from here, name another one with "
                "--grpclb-base-image (or --base), and set PIP_INDEX_URL or HTTPS_PROXY in the "
                "environment; or name an image that was built elsewhere with --grpclb-image"
            )
            output = _without_secrets(error.output)
            raise CommandError(error.command, what=what, output=output) from None


def _without_secrets(text: str) -> str:
    """Return what an engine said without the users and passwords of what it was given."""
    for name in _FROM_ENVIRONMENT:
        for word in os.environ.get(name, "").split():
            user, _, password = urlsplit(word).netloc.rpartition("@")[0].partition(":")
            secret = password or user  # some registries have a token for the user's name
            for each in (f"{user}:{password}", secret, unquote(secret)) if secret else ():
                text = text.replace(each, "***")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Build the image under a name of the user's choice."""
    parser = argparse.ArgumentParser(prog="python -m pytest_grpclb.clusters.image")
    parser.add_argument("image", metavar="REPOSITORY:TAG")
    parser.add_argument("--base", default=_BASE, help="an image with Python to begin with")
    parser.add_argument(
        "--platform", default="", help="of the nodes, where they are not like this machine"
    )
    given = parser.parse_args(arguments)
    try:
        build(
            find_engine("image"),
            given.image,
            content(given.base),
            base=given.base,
            platform=given.platform,
        )
    except GrpclbError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"built {given.image}; next: docker push {given.image}\n")
    return 0


def _requirements() -> list[str]:
    """Return the closure of what the programs need, in the versions that are installed here."""
    found: dict[str, str] = {}
    waiting = list(_NEEDED)
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            found[key] = f"{key}=={metadata.version(name)}"
        except metadata.PackageNotFoundError as error:
            raise GrpclbError(
                f"the image of the programs needs {name!r}, which is not installed here. "
                "Install it with: pip install 'pytest-grpclb[cluster]'"
            ) from error
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sorted(found.values())


if __name__ == "__main__":
    raise SystemExit(main())
