"""SIGTERM as Ctrl-C: only while there is something that would otherwise be left behind."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Termination"]


class Termination:
    """While open, SIGTERM raises KeyboardInterrupt, so that everything made is deleted in order.

    A handler that somebody else has set is left alone, and signals that come later are ignored:
    deleting is under way then.
    """

    def __init__(self) -> None:
        self._is_open = False

    def open(self) -> None:
        """Begin; does nothing outside the main thread, where Python sets no handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._interrupt)
            self._is_open = True

    def close(self) -> None:
        """End; safe to call twice."""
        if self._is_open:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._is_open = False

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt("SIGTERM")
