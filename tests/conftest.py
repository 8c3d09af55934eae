from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

# A shell's background jobs ignore Ctrl-C, and so does all that they start: here it is pressed.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    # The long files of cluster/ and plugin/ come first, in their own order: pytest-xdist's
    # ends with them, one worker in the last and the others idle.
    config.option.loadscopereorder = False
