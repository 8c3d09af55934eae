from __future__ import annotations

import subprocess
import sys

import grpc
import pytest

from pytest_grpclb import programs
from pytest_grpclb._pb import helloworld_pb2

from .conftest import CLIENT_OPTIONS, DEADLINE_S, METHOD

# What a process that forks pods does: import once, fork, run the program in the child.
FORKS = """
import os, signal, sys
from pytest_grpclb import programs
children = []
for name in sys.argv[1:]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 2)
        os.environ.update(POD_NAME=name, POD_UID=name, GRPCLB_LISTEN_IP="127.0.0.1")
        os._exit(programs.main(["greeter", "--port=0"]))
    os.close(write)
    children.append(child)
    print(os.fdopen(read).readline().split()[-1], flush=True)
sys.stdin.read()
for child in children:
    os.kill(child, signal.SIGTERM)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.parametrize(("argv", "name"), [([], "''"), (["greeting", "--port=1"], "'greeting'")])
def test_an_unknown_program_is_told(
    capsys: pytest.CaptureFixture[str], argv: list[str], name: str
) -> None:
    assert programs.main(argv) == 2
    assert capsys.readouterr().err == (
        f"{name} is no program; expected one of balancer, driver, greeter, then its flags\n"
    )


def test_misused_flags_are_an_exit_code_not_an_exception(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert programs.main(["driver", "--prot=1"]) == 2
    usage, message = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: driver ")
    assert message == "driver: error: unrecognized arguments: --prot=1"


def test_importing_the_programs_makes_nothing_that_must_not_be_forked() -> None:
    code = (
        "import threading; from pytest_grpclb import programs; "
        "import os; print(threading.active_count(), len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1\n"


def test_forked_programs_serve_and_end() -> None:
    names = ["one", "two", "three"]
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as forks:
        assert forks.stdout is not None
        for name in names:
            address = forks.stdout.readline().strip()
            with grpc.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
                reply = channel.unary_unary(METHOD)(b"", timeout=DEADLINE_S, wait_for_ready=True)
            assert helloworld_pb2.HelloReply.FromString(reply).message == f"Hello  from {name}"
        rest, _ = forks.communicate(timeout=DEADLINE_S)
    assert rest == "[0, 0, 0]\n"
