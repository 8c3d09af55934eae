from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.termination import Termination

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_as_ctrl_c_while_it_is_open_and_only_once() -> None:
    termination = Termination()
    termination.open()
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # deleting is under way: nothing happens
    termination.close()
    termination.close()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    def theirs(*_: object) -> None:
        raise AssertionError("not called")

    signal.signal(signal.SIGTERM, theirs)
    termination = Termination()
    termination.open()
    termination.close()
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_outside_the_main_thread_it_does_nothing() -> None:
    thread = threading.Thread(target=Termination().open)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
