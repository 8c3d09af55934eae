"""The programs that run inside pods: gRPC, the generated code and the standard library only.

Importing this package imports every program, so that a process which forks pods has them loaded,
and creates nothing of gRPC, which must not be forked.
"""

from __future__ import annotations

import sys

from pytest_grpclb.programs import balancer, driver, greeter
from pytest_grpclb.programs.serving import ProgramError

__all__ = ["main"]

_PROGRAMS = {"balancer": balancer.main, "driver": driver.main, "greeter": greeter.main}


def main(argv: list[str]) -> int:
    """Run the program that *argv* names, with the flags after it, and return its exit code.

    Never raises SystemExit: in a forked process that would run the parent's clean-up.
    """
    name, flags = (argv[0], argv[1:]) if argv else ("", [])
    program = _PROGRAMS.get(name)
    if program is None:
        known = ", ".join(sorted(_PROGRAMS))
        sys.stderr.write(f"{name!r} is no program; expected one of {known}, then its flags\n")
        return 2
    try:
        return program(flags)
    except ProgramError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return error.exit_code
    except SystemExit as ending:  # argparse, after it has told what is wrong
        return ending.code if isinstance(ending.code, int) else 1
