"""Examples that are found alike each time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

import hypothesis

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

__all__ = ["find"]

Example = TypeVar("Example")


def find(generator: SearchStrategy[Example], holds: Callable[[Example], bool]) -> Example:
    """Return the simplest example of *generator* that *holds*, by luck that is always the same."""
    return hypothesis.find(generator, holds, random=random.Random(7))
