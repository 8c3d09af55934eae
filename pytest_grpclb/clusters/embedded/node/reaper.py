"""What Linux offers to leave no process behind: parent-death signals and subreapers.

:source: prctl(2), PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NAME
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

__all__ = ["become_subreaper", "die_with_parent", "end_descendants", "set_process_name"]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

# Loaded once, before any fork: a child has no business in the dynamic linker.
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int | bytes) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    unused = ctypes.c_ulong(0)
    if _libc.prctl(option, argument, unused, unused, unused):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def become_subreaper() -> None:
    """Adopt every descendant whose parent ends, so that daemons cannot get away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when *parent*, which started it, ends; also if it has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def set_process_name(name: str) -> None:
    """Show this process under another name in ``top``; the kernel keeps 15 characters."""
    _prctl(_PR_SET_NAME, name.encode())


def end_descendants() -> None:
    """Kill every child and, as they fall to this subreaper, every descendant; wait until done."""
    while True:
        for child in _children():
            # A child that was not waited for keeps its number, so no stranger can be hit.
            os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = os.getpid()
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
            # The second field, in parentheses, may hold anything; the parent is the fourth.
            if int(stat.rpartition(")")[2].split()[1]) == own:
                children.append(int(entry.name))
    return children
