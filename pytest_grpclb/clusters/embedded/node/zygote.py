"""The process that all processes of pods are forked from.

It has imported gRPC and this package's programs, so that a fork has a pod listening within some
30 ms, where a fresh interpreter would first import for a quarter of a second. It stays
single-threaded and makes no channel or server, for neither survives a fork.

Its parent, the cluster process, gives it orders over a socket, one JSON object a line:

    {"start": ID, "program": [...] or "command": [...], "env": {...}, "directory": ..., "log": ...}
    {"signal": ID, "number": 15, "group": false}

and is told

    {"started": ID, "pid": ...} or {"failed": ID, "message": ...}
    {"exited": ID, "code": ...}, the code negative if a signal ended it

Signals go through here because only the parent of a process knows that its number is still its own.
When the socket closes, or on SIGTERM, everything is killed.

A container's processes form a group. They are killed together when the first of them ends; one that
left the group, as a daemon does, when the cluster does.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_grpclb.clusters.embedded.node import reaper

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

_Order = dict[str, Any]


class _Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._woken, self._wake = os.pipe()
        self._ending = False
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        self._ending = True

    def run(self) -> None:
        """Carry out orders until there are no more to come."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        orders = self._orders()
        while not self._ending:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready:
                batch = next(orders, None)
                if batch is None:
                    return
                for order in batch:
                    self._carry_out(order)

    def _orders(self) -> Iterator[list[_Order]]:
        rest = b""
        while received := self._control.recv(1 << 16):
            *lines, rest = (rest + received).split(b"\n")
            yield [json.loads(line) for line in lines]

    def _tell(self, **what: object) -> None:
        self._control.sendall(json.dumps(what).encode() + b"\n")

    def _carry_out(self, order: _Order) -> None:
        if "signal" in order:
            pid = self._pids.get(order["signal"])
            if pid is not None:
                (os.killpg if order["group"] else os.kill)(pid, order["number"])
            return
        name = order["start"]
        try:
            pid, failure = self._fork(order)
        except OSError as error:  # no process or no memory is left
            self._tell(failed=name, message=f"fork: {error.strerror}")
            return
        if failure:
            os.waitpid(pid, 0)
            self._tell(failed=name, message=failure)
            return
        self._pids[name], self._ids[pid] = pid, name
        self._tell(started=name, pid=pid)

    def _fork(self, order: _Order) -> tuple[int, str]:
        """Start a process; return its number and, if it could not become what it should, why."""
        told, tell = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(order, parent, tell)
        os.close(tell)
        # Closed by the child when its program begins, or by the kernel when it executes a command.
        with os.fdopen(told, "rb") as reader:
            return pid, reader.read().decode()

    def _reap(self) -> None:
        while True:
            try:
                # Left unreaped at first, so that its number still stands for its group.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            name = self._ids.pop(ended.si_pid, None)
            if name is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(ended.si_pid, signal.SIGKILL)
            _, status = os.waitpid(ended.si_pid, 0)
            if name is not None:
                del self._pids[name]
                self._tell(exited=name, code=os.waitstatus_to_exitcode(status))


def _become(order: _Order, parent: int, tell: int) -> NoReturn:
    """Turn a fork of the zygote into a container's process."""
    code = 1
    try:
        _leave_zygote(order, parent, tell)
        if "program" in order:
            code = _run_program(order["program"], tell)
        else:
            _execute(order["command"], order["env"])
    except OSError as error:
        with contextlib.suppress(OSError):  # no longer open: then it is the program's own error
            os.write(tell, f"{error.filename or 'start'}: {error.strerror}".encode())
    finally:
        os._exit(code)


def _leave_zygote(order: _Order, parent: int, tell: int) -> None:
    reaper.die_with_parent(parent)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if (descriptor := int(name)) > 2 and descriptor != tell:
            with contextlib.suppress(OSError):  # the one that the listing itself was read from
                os.close(descriptor)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["env"])


def _run_program(arguments: list[str], tell: int) -> int:
    from pytest_grpclb import programs

    reaper.set_process_name(f"grpclb-{arguments[0]}" if arguments else "grpclb")
    os.close(tell)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    gc.enable()
    try:
        return programs.main(arguments)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        sys.stderr.write(f"{leaving.code}\n")
    except BaseException:  # noqa: BLE001 - what ends an interpreter with a traceback and status 1
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 1


def _execute(command: list[str], environment: dict[str, str]) -> None:
    # Ignored by Python for itself, or by who started pytest, as nohup does: not what a pod expects.
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    name = command[0]
    try:
        os.execvpe(name, command, environment)  # noqa: S606 - an argument list, as everywhere
    except FileNotFoundError as error:
        where = "no such file" if "/" in name else "executable file not found in $PATH"
        raise OSError(error.errno, where, f'exec "{name}"') from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, f'exec "{name}"') from error


def main(control: int, prober: int) -> None:
    """Serve the cluster process until it closes the socket.

    :param control: descriptor that orders come from
    :param prober: descriptor that health checks are asked for on
    """
    reaper.become_subreaper()
    from pytest_grpclb import programs
    from pytest_grpclb.clusters.embedded.node import prober as probing

    # Nothing of what was imported will ever be garbage: do not touch, and so copy, its pages.
    programs.__name__  # noqa: B018
    gc.collect()
    gc.freeze()
    parent = os.getpid()
    if os.fork() == 0:
        reaper.die_with_parent(parent)
        os.close(control)
        gc.enable()
        probing.main(prober)
        os._exit(0)
    os.close(prober)
    gc.disable()
    zygote = _Zygote(socket.socket(fileno=control))
    try:
        with contextlib.suppress(ConnectionError):  # the cluster process has gone: so does this
            zygote.run()
    finally:
        reaper.end_descendants()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
