"""Nothing is left running, and no file outside pytest's temporary folder, however a run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .interrupted import IN_A_TEST, IN_SETUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 30.0
"""Far beyond what anything here takes: only a hang reaches it."""

PASSES = """
def test_short(grpclb):
    grpclb.drive(calls=5)
"""

FAILS = """
def test_short(grpclb):
    grpclb.drive(calls=5)
    assert False
"""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for *condition*, looking often; fail when it does not come true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"timed out: {what}"
        time.sleep(0.01)  # the pause between two looks


def users_of(folder: Path) -> set[int]:
    """Return the processes that have a file below *folder* open or work there."""
    found = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = [process / "cwd", *(process / "fd").iterdir()]
            if any(str(link.readlink()).startswith(f"{folder}/") for link in links):
                found.add(int(process.name))
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    return found


def all_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextmanager
def running(pytester: pytest.Pytester, test: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start pytest on *test* with a home and a temporary folder of its own."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:xdist\n")
    pytester.makepyfile(test_it=test)
    folders = {name: pytester.mkdir(name) for name in ("home", "tmp")}
    environment = {
        **os.environ,
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["tmp"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("PYTEST_DEBUG_TEMPROOT", None)
    with (pytester.path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest"], env=environment, stdout=output, stderr=output
        )
    try:
        yield process, folders["tmp"]
    finally:
        process.kill()
        process.wait()


def assert_nothing_is_left(pytester: pytest.Pytester, temporary: Path) -> None:
    until(lambda: not users_of(temporary), "processes that use the temporary folder")
    assert {path.name.split("-of-")[0] for path in temporary.iterdir()} == {"pytest"}
    assert all_files(pytester.path / "home") == set()
    named = {path.name for path in pytester.path.iterdir()}
    assert named <= {"home", "tmp", "output", "reached", "test_it.py", "tox.ini"}


@pytest.mark.parametrize(("test", "status"), [(PASSES, 0), (FAILS, 1)], ids=["passes", "fails"])
def test_after_a_run_that_ends_by_itself(pytester: pytest.Pytester, test: str, status: int) -> None:
    with running(pytester, test) as (process, temporary):
        assert process.wait(DEADLINE_S) == status
        assert users_of(temporary) == set()
    assert_nothing_is_left(pytester, temporary)


@pytest.mark.parametrize("test", [IN_A_TEST, IN_SETUP], ids=["test", "setup"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_after_a_signal(pytester: pytest.Pytester, test: str, how: signal.Signals) -> None:
    with running(pytester, test) as (process, temporary):
        until((pytester.path / "reached").exists, "the moment to interrupt")
        assert len(users_of(temporary)) > 1  # the cluster at least: there is something to end
        process.send_signal(how)
        status = process.wait(DEADLINE_S)
        assert status == (pytest.ExitCode.INTERRUPTED if how == signal.SIGINT else -how)
    assert_nothing_is_left(pytester, temporary)
