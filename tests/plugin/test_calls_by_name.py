"""A service repo's own service, called by a method's name and JSON: no stubs, no header of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SHOP = Path(__file__).with_name("shop")

EVEN = """
from pytest_grpclb import assert_even_spread


def test_even(grpclb):
    traffic = grpclb.drive()
    print("attributed by", traffic.attribution)
    assert_even_spread(traffic)
"""


def repo(pytester: pytest.Pytester, *flags: str, **settings: str) -> None:
    """Make a repository of the shop, with *flags* of its server and ini settings."""
    command = f"{sys.executable} {SHOP / 'server.py'} {{ip}} {{port}} {' '.join(flags)}"
    lines = "".join(f"grpclb_{name} = {value}\n" for name, value in settings.items())
    pytester.makeini(
        f"[pytest]\ngrpclb_embedded_images = example.org/shop:1 = {command}\n{lines}"
    )
    pytester.makeconftest((SHOP / "conftest_of_repo.py").read_text())


GET_ITEM = {"method": "shop.v1.Catalog/GetItem", "request": '{"id": "42"}'}


@pytest.mark.parametrize(
    ("strategy", "way"),
    [
        ("headless", "peer of the connection"),
        ("lookaside", "peer of the connection"),
        ("envoy-sidecar", "response header 'grpclb-upstream'"),
        ("ingress-nginx", "response header 'grpclb-upstream'"),
    ],
)
def test_who_answers_is_known_without_the_services_help(
    pytester: pytest.Pytester, strategy: str, way: str
) -> None:
    repo(pytester, "reflection", **GET_ITEM)
    pytester.makepyfile(EVEN)
    result = pytester.runpytest_subprocess(f"--grpclb-strategy={strategy}", "--grpclb-require", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*attributed by {way}"])
