"""What a chart's ``kubeVersion`` allows. Pure.

:source: Helm documentation, "Charts", the kubeVersion field; Masterminds/semver, "Checking Version
    Constraints"
"""

from __future__ import annotations

import re

__all__ = ["allows"]

_VERSION = r"v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(-[\w.-]+)?(?:\+[\w.-]+)?"
_TERM = re.compile(rf"(=|!=|>=|=>|<=|=<|>|<|~>?|\^)?\s*{_VERSION}(?:\s*,\s*|\s+|$)")
_FROM_TO = re.compile(r"(\S+)\s+-\s+(\S+)")

Point = tuple[int, int, int, int]
"""A version: major, minor, patch; 1: the release, 0: one before it, such as ``-0``."""
_FIRST: Point = (0, 0, 0, 0)
_LAST: Point = (1 << 30, 0, 0, 0)


def allows(constraint: str, version: str) -> bool:
    """Tell whether a version of Kubernetes is one that a constraint is for.

    What providers add to a version, such as ``-gke.100``, makes it none from before the release.

    :param constraint: comparisons, all of which are to hold; or such with ``||`` between
    :raises ValueError: if one of both is none
    """
    found = re.match(_VERSION, version)
    if found is None:
        raise ValueError(f"{version!r} is no version")
    running: Point = (*(int(each or 0) for each in found.groups()[:3]), 1)  # type: ignore[assignment]
    # All are read, so that a mistake in one shows whatever the others say.
    alternatives = [_holds(each.strip(), running) for each in constraint.split("||")]
    return any(alternatives)


def _holds(constraint: str, running: Point) -> bool:
    text = _FROM_TO.sub(r">=\1 <=\2", constraint)
    at, results = 0, []
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None:
            raise ValueError(f"{constraint!r} is no version constraint")
        low, high = _range(term[1] or "=", term.groups()[1:5])
        results.append((low <= running < high) != (term[1] == "!="))
        at = term.end()
    return bool(results) and all(results)


def _range(operator: str, parts: tuple[str | None, ...]) -> tuple[Point, Point]:
    """Return the first version that a comparison allows (of "!=": forbids), and the first after."""
    given: list[int] = []
    for part in parts[:3]:
        if part is None or not part.isdigit():
            break
        given.append(int(part))
    major, minor, patch = [*given, 0, 0, 0][:3]
    base: Point = (major, minor, patch, 0 if parts[3] or len(given) < 3 else 1)
    after: Point = {
        0: _LAST,
        1: (major + 1, 0, 0, 0),
        2: (major, minor + 1, 0, 0),
        3: (major, minor, patch, base[3] + 1),
    }[len(given)]
    if not given:
        return _FIRST, _LAST
    ranges: dict[str, tuple[Point, Point]] = {
        "=": (base, after),
        ">": (after, _LAST),
        ">=": (base, _LAST),
        "<": (_FIRST, base),
        "<=": (_FIRST, after),
        "~": (base, (major, minor + 1, 0, 0) if len(given) > 1 else after),
        "^": (base, (major + 1, 0, 0, 0)),
    }
    same = {"!=": "=", "=>": ">=", "=<": "<=", "~>": "~"}
    return ranges[same.get(operator, operator)]
