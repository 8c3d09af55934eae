"""Which nginx of this machine can be used."""

from __future__ import annotations

import pytest

from pytest_grpclb.clusters.embedded.ingress.binary import too_old


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("nginx version: nginx/1.27.2 (Ubuntu)", "1.27.2"),
        ("nginx version: nginx/1.27.3", None),
        ("nginx version: nginx/1.31.3", None),
        ("nginx version: nginx/2.0.0", None),
        ("Tengine version: something", None),
    ],
)
def test_an_nginx_that_asks_for_names_only_once_is_too_old(told: str, version: str | None) -> None:
    assert too_old(told) == version
