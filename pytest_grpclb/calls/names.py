"""Names of methods, and what somebody may have meant who got one wrong."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from pytest_grpclb.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["full_name", "near", "split_name"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_NAME = re.compile(r"/?([A-Za-z_][\w.]*)/([A-Za-z_]\w*)")


def split_name(method: str) -> tuple[str, str]:
    """Return service and method of "package.Service/Method", with or without a slash in front.

    :raises CallError: if it is no such name
    """
    found = _NAME.fullmatch(method)
    if found is None:
        raise CallError(
            method, what="this is no method's name", advice="write it as package.Service/Method"
        )
    return found[1], found[2]


def full_name(method: str) -> str:
    """Return *method* as it is called on the wire: "/package.Service/Method".

    :raises CallError: if it is no method's name
    """
    return "/{}/{}".format(*split_name(method))


def near(name: str, known: Iterable[str]) -> str:
    """Return, for people, what of *known* is like *name*, else all of it."""
    names = sorted(known)
    if not names:
        return "there is none"
    by_short = {each.lower(): each for each in names}
    like = difflib.get_close_matches(name.lower(), by_short, n=3)
    if like:
        return f"did you mean {' or '.join(repr(by_short[each]) for each in like)}?"
    return f"there are: {', '.join(names)}"
