"""What releases of Kubernetes publish of their kinds; a real API server drops other fields."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from unittest import mock

import kubernetes_validate
from kubernetes_validate import utils

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_grpclb.model import Manifest

RELEASES = ("1.30", "1.35")
"""The oldest that is promised, and that of kind's nodes."""

_once = functools.cache(utils.schema_contents)
"""The library reads a release's schemas anew for each object."""


def refusals(manifests: Iterable[Manifest]) -> list[str]:
    """Return what the published schemas have against objects; strictly: no field but theirs."""
    found = []
    with mock.patch.object(utils, "schema_contents", _once):
        for each in manifests:
            for release in RELEASES:
                try:
                    kubernetes_validate.validate(each, release, strict=True)
                except kubernetes_validate.ValidationError as error:
                    where = ".".join(map(str, error.path))
                    found.append(f"{release}: {each['kind']}: {where}: {error.message}")
    return found
