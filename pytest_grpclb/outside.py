"""A driver outside the cluster, on this machine: for calls that enter by an ingress, as in life."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from pytest_grpclb.errors import DriverError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OutsideDriver"]

_ENDING_S = 5.0
"""It ends by itself within its grace of a second; this much only on a stalled machine."""


class OutsideDriver:
    """The driver program as a process of its own; it ends with this one, however that ends.

    :param log: what it writes goes there
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def start(self) -> None:
        """Begin to start it, unless it runs, and return at once."""
        if self._process is not None and self._process.poll() is None:
            return
        self._address = ""
        # Its own address alone, and none of the cluster: it is outside.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GRPCLB_")
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "pytest_grpclb.programs"),
                    *("driver", "--port=0", "--attached"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**environment, "GRPCLB_LISTEN_IP": "127.0.0.1"},
                start_new_session=True,  # Ctrl-C goes to pytest alone, which ends this in order
            )

    def wait(self, timeout_s: float = 30.0) -> str:
        """Return its "host:port" when it listens.

        :raises DriverError: if it does not within *timeout_s*, or has ended
        """
        self.start()
        assert self._process is not None
        assert self._process.stdout is not None
        if self._address:
            return self._address
        deadline_s = time.monotonic() + timeout_s
        told = b""
        while not told.endswith(b"\n"):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                raise self._failure(f"does not listen after {timeout_s:g} s")
            received = os.read(self._process.stdout.fileno(), 1024)
            if not received:
                raise self._failure(f"ended with exit code {self._process.wait()}")
            told += received
        self._address = told.decode().strip()
        return self._address

    def close(self) -> None:
        """End it; safe to call twice and before `start`."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout, contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.terminate()
        try:
            process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _failure(self, what: str) -> DriverError:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()[-10:]
        return DriverError(
            "\n".join((f"the driver outside the cluster {what}; its last log lines:", *lines))
        )
