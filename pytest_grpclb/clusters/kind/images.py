"""The images that pods of a kind cluster use: built where missing, and brought to its nodes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_grpclb.clusters import image as own_image
from pytest_grpclb.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.clusters.engine import Engine
    from pytest_grpclb.clusters.protocol import ClusterRequest

__all__ = ["bring_images"]


def bring_images(
    engine: Engine, programs: str, request: ClusterRequest, *, load: Callable[[str], object]
) -> None:
    """Bring the images to the nodes by archives, which every engine and image store can do.

    :param programs: the image of this package's own programs
    :param load: brings an archive to all nodes
    :raises CommandError: if the engine cannot build or save one
    :raises OptionError: if one that the user has named is not here
    """
    # By an archive an image comes without the digest that it has in its registry: nodes pull it.
    wanted = [programs] if "@" not in programs else []
    if wanted and not engine.has_image(programs):
        if request.image:
            raise _not_here(engine, "--grpclb-image", programs)
        base = request.base_image
        own_image.build(engine, programs, own_image.content(base), base=base)
    for name in request.load_images:
        if not engine.has_image(name):
            raise _not_here(engine, "--grpclb-load-image", name)
    with tempfile.TemporaryDirectory(prefix="pytest-grpclb-images-") as folder:
        archive = Path(folder) / "image.tar"
        for name in dict.fromkeys((*wanted, *request.load_images)):
            engine.save(name, str(archive))
            load(str(archive))
            archive.unlink(missing_ok=True)


def _not_here(engine: Engine, option: str, name: str) -> OptionError:
    expected = f"an image that {engine.name} has; `{engine.name} pull {name}` fetches it"
    return OptionError(option, name, expected=expected)
