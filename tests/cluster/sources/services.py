"""Services of one's own, as a user describes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_grpclb.sources.made import ImageSource

if TYPE_CHECKING:
    from pytest_grpclb.errors import NotReadyError

SHOP = Path(__file__).parents[3] / "example_tests" / "shop"


def image(name: str, **more: Any) -> ImageSource:
    return ImageSource(image=name, root=SHOP, **more)


def told(error: NotReadyError) -> str:
    """Return an error's first line, without how long was waited."""
    line = str(error).partition("\n")[0]
    return line.partition("; ")[2]
