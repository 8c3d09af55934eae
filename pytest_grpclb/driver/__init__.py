"""The test process's side of the driver: plans go there, calls come back.

`plan` says what a run shall do, `client` starts it, `run` stays with it, and `told` makes columns
of what it tells.
"""

from __future__ import annotations

from pytest_grpclb.driver.client import DriverClient
from pytest_grpclb.driver.run import DriverRun

__all__ = ["DriverClient", "DriverRun"]
