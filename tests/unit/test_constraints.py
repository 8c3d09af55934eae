"""Which versions of Kubernetes a chart's kubeVersion allows."""

from __future__ import annotations

import pytest

from pytest_grpclb.constraints import allows

# By the tables of "Checking Version Constraints" in Masterminds/semver's documentation.
CASES = {
    ">=1.25.0-0": ("1.24.9 1.20.0", "1.25.0 v1.34.1 1.34.1-gke.100 v1.25.0+k3s1"),
    ">= 1.25": ("1.24.9", "1.25.0 2.0.0"),
    ">1.25": ("1.25.0 1.25.9", "1.26.0"),
    ">1.25.3": ("1.25.3", "1.25.4"),
    "<1.30.0-0": ("1.30.0 1.31.0", "1.29.9"),
    "<=1.30": ("1.31.0", "1.30.0 1.30.7 1.2.0"),
    "<=1": ("2.0.0", "1.99.0"),
    "=1.30.1": ("1.30.0 1.30.2", "1.30.1"),
    "1.30.x": ("1.29.0 1.31.0", "1.30.0 1.30.9"),
    "1.30": ("1.29.0 1.31.0", "1.30.0 1.30.9"),
    "!=1.30.x": ("1.30.0 1.30.4", "1.29.0 1.31.0"),
    "~1.30.2": ("1.30.1 1.31.0", "1.30.2 1.30.9"),
    "~1": ("2.0.0", "1.0.0 1.99.0"),
    "^1.30": ("1.29.9 2.0.0", "1.30.0 1.99.0"),
    "1.27 - 1.29.1": ("1.26.9 1.29.2", "1.27.0 1.29.1"),
    ">=1.21.0, <1.25.0 || >= 1.27.0": ("1.20.0 1.25.0 1.26.9", "1.21.0 1.24.9 1.27.0"),
    ">=1.21.0 <1.25.0": ("1.20.9 1.25.0", "1.21.0"),
    "*": ("", "1.0.0 1.36.0"),
}


@pytest.mark.parametrize("constraint", CASES)
def test_a_constraint_allows_what_helm_says(constraint: str) -> None:
    refused, allowed = (each.split() for each in CASES[constraint])
    assert [each for each in refused if allows(constraint, each)] == []
    assert [each for each in allowed if not allows(constraint, each)] == []


@pytest.mark.parametrize("constraint", ["new", ">=", ">=1.25 or so", "1.2.3.4", ">= 1.2 || new"])
def test_what_is_no_constraint_is_an_error(constraint: str) -> None:
    part = constraint.rpartition("|| ")[2]
    with pytest.raises(ValueError, match=f"^{part!r} is no version constraint$"):
        allows(constraint, "1.36.0")


def test_what_is_no_version_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^'main' is no version$"):
        allows(">=1.25", "main")
