from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs are configured by their tests alone."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Under xdist, the outer run's name would become the name of every inner one.
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        monkeypatch.delenv(name)
