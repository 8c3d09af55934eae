"""The driver outside the cluster: a process that listens, and ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.errors import DriverError
from pytest_grpclb.outside import OutsideDriver

if TYPE_CHECKING:
    from pathlib import Path


def test_it_listens_on_loopback_until_it_is_closed(tmp_path: Path) -> None:
    driver = OutsideDriver(tmp_path / "driver.log")
    address = driver.wait()
    assert address.startswith("127.0.0.1:")
    assert driver.wait() == address
    assert driver._process is not None
    process = driver._process
    driver.close()
    driver.close()
    assert process.returncode == 0


def test_closing_what_was_never_started_is_no_error(tmp_path: Path) -> None:
    OutsideDriver(tmp_path / "driver.log").close()


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import pathlib, signal
                from pytest_grpclb.outside import OutsideDriver
                driver = OutsideDriver(pathlib.Path({str(tmp_path / "driver.log")!r}))
                driver.wait()
                print(driver._process.pid, flush=True)
                signal.pause()
                """
            ),
        ],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    watching = os.pidfd_open(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    import select

    try:
        assert select.select([watching], [], [], 10)[0]  # readable: it has ended
    finally:
        os.close(watching)


def test_one_that_ends_at_once_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(broken))
    driver = OutsideDriver(tmp_path / "driver.log")
    with pytest.raises(DriverError) as caught:
        driver.wait()
    driver.close()
    assert str(caught.value) == (
        "the driver outside the cluster ended with exit code 3; its last log lines:\nno luck"
    )
