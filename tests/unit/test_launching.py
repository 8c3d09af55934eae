"""What is known of a run while it sends calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_grpclb.driver.told import ClientView
from pytest_grpclb.launching import Launcher
from pytest_grpclb.model import Mechanism

if TYPE_CHECKING:
    from pytest_grpclb.driver import DriverRun


@pytest.mark.parametrize(
    ("mechanism", "proxied", "rebuilds", "as_before"),
    [
        (Mechanism.ROUND_ROBIN, False, 0, True),
        (Mechanism.ROUND_ROBIN, False, 1, False),
        (Mechanism.ROUND_ROBIN, False, None, True),  # nothing is known
        (Mechanism.ROUND_ROBIN, True, 1, True),  # a proxy picks, whatever its clients' connections
        (Mechanism.RANDOM, False, 1, True),  # there are no rounds
    ],
)
def test_a_client_that_goes_round_goes_another_round_when_it_reconnects(
    *, mechanism: Mechanism, proxied: bool, rebuilds: int | None, as_before: bool
) -> None:
    freezer = SimpleNamespace(
        strategy=SimpleNamespace(mechanism=mechanism),
        picker=SimpleNamespace(proxied=proxied),
    )
    nothing: Any = None
    launcher = Launcher(
        freezer=cast("Any", freezer), deployment=nothing, driver=nothing, resolver=nothing
    )
    run = SimpleNamespace(client_view=lambda: ClientView(picker_rebuilds=rebuilds))
    assert launcher.picks_as_before(cast("DriverRun", run)) is as_before
