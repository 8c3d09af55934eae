"""The zygote with real processes: what they begin with, how they end, and that none is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.node.processes import (
    Order,
    Process,
    Processes,
    StartError,
    Zygote,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# A loopback block that no cluster takes by default.
ADDRESS = "127.253.1.1"


@asynccontextmanager
async def running() -> AsyncIterator[Processes]:
    zygote = Zygote()
    processes = await Processes.of(zygote)
    serving = asyncio.create_task(processes.serve())
    try:
        yield processes
    finally:
        processes.close()
        await serving
        await asyncio.sleep(0)  # closing takes effect in the event loop's next turn
        zygote.end()


class Fixture:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"

    def order(self, *arguments: str, own: bool = False, **environment: str) -> Order:
        return Order(
            arguments=arguments,
            own=own,
            environment={"PATH": os.environ["PATH"], **environment},
            directory=self.directory,
            log=self.log,
        )

    def python(self, code: str) -> Order:
        return self.order(sys.executable, "-c", code)

    async def lines(self, count: int) -> list[str]:
        """Wait until the log has so many lines, and return them."""
        await until(lambda: self.log.exists() and self.log.read_text().count("\n") >= count)
        return self.log.read_text().splitlines()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between open and read
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def parent_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def test_a_command_gets_its_environment_directory_and_log(fixture: Fixture) -> None:
    async def run() -> int:
        async with running() as processes:
            code = "pwd; env | sort; echo oops >&2; exit 3"
            process = await processes.start(fixture.order("sh", "-c", code, WHO="me"))
            return await process.exited

    assert asyncio.run(run()) == 3
    lines = fixture.log.read_text().splitlines()
    assert lines[0] == str(fixture.directory)
    assert [line for line in lines if line.startswith("WHO=")] == ["WHO=me"]
    assert lines[-1] == "oops"
    names = {line.partition("=")[0] for line in lines[1:-1]}
    assert names <= {"PATH", "WHO", "PWD", "OLDPWD", "SHLVL", "_"}  # the shell adds some
    assert fixture.log.stat().st_mode & 0o077 == 0


def test_a_process_begins_with_nothing_but_its_standard_streams(fixture: Fixture) -> None:
    code = (
        "import os, signal\n"
        "print(sorted(os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')"
        " if int(n) > 2 and os.path.exists(f'/proc/self/fd/{n}')))\n"
        "print(os.readlink('/proc/self/fd/0'), os.getsid(0) == os.getpid())\n"
        "print(open('/proc/self/status').read().split('SigIgn:')[1].split()[0])\n"
    )

    async def run() -> None:
        async with running() as processes:
            process = await processes.start(fixture.python(code))
            assert await process.exited == 0

    asyncio.run(run())
    # Python itself ignores SIGPIPE (bit 12) and SIGXFSZ (bit 24), whatever it begins with.
    assert fixture.log.read_text().splitlines() == ["[]", "/dev/null True", "0000000001001000"]


def test_own_programs_run_in_a_fork(fixture: Fixture) -> None:
    async def run() -> int:
        async with running() as processes:
            process = await processes.start(fixture.order("nonsense", own=True))
            return await process.exited

    assert asyncio.run(run()) == 2
    assert "'nonsense' is no program" in fixture.log.read_text()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-command", 'exec "no-such-command": executable file not found in $PATH'),
        ("/no/such/file", 'exec "/no/such/file": no such file'),
        ("/etc", 'exec "/etc": Permission denied'),
    ],
)
def test_a_command_that_cannot_be_executed_is_named(
    fixture: Fixture, command: str, message: str
) -> None:
    async def run() -> None:
        async with running() as processes:
            with pytest.raises(StartError) as caught:
                await processes.start(fixture.order(command))
            assert str(caught.value) == message
            # And the zygote goes on.
            process = await processes.start(fixture.order("true"))
            assert await process.exited == 0

    asyncio.run(run())


def test_a_directory_that_is_not_there_is_named(fixture: Fixture) -> None:
    fixture.directory = Path("/no/such/directory")

    async def run() -> None:
        async with running() as processes:
            with pytest.raises(StartError) as caught:
                await processes.start(fixture.order("true"))
            assert str(caught.value) == "/no/such/directory: No such file or directory"

    asyncio.run(run())


def test_a_signal_is_told_as_a_negative_code(fixture: Fixture) -> None:
    async def run() -> int:
        async with running() as processes:
            process = await processes.start(fixture.order("sleep", "1000"))
            process.signal(signal.SIGTERM)
            code = await process.exited
            process.signal(signal.SIGTERM)  # nothing is there to be hit any more
            return code

    assert asyncio.run(run()) == -signal.SIGTERM


def test_what_a_process_started_ends_with_it(fixture: Fixture) -> None:
    async def run() -> None:
        async with running() as processes:
            process = await processes.start(fixture.order("sh", "-c", "sleep 1000 & echo $!"))
            assert await process.exited == 0
            [child] = await fixture.lines(1)
            await until(lambda: not is_alive(int(child)))

    asyncio.run(run())


DAEMON = (
    "import os, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        print(os.getpid(), flush=True); time.sleep(1000)\n"
    "    os._exit(0)\n"
    "time.sleep(1000)\n"
)


async def start_with_daemon(fixture: Fixture, processes: Processes) -> tuple[Process, int]:
    process = await processes.start(fixture.python(DAEMON))
    [daemon] = await fixture.lines(1)
    return process, int(daemon)


def test_ending_the_zygote_ends_daemons_too(fixture: Fixture) -> None:
    async def run() -> list[int]:
        async with running() as processes:
            process, daemon = await start_with_daemon(fixture, processes)
            return [process.pid, daemon]

    assert [pid for pid in asyncio.run(run()) if is_alive(pid)] == []


def test_a_zygote_that_is_killed_takes_its_pods_along(fixture: Fixture) -> None:
    async def run() -> None:
        zygote = Zygote()
        processes = await Processes.of(zygote)
        serving = asyncio.create_task(processes.serve())
        process = await processes.start(fixture.order("sleep", "1000"))
        os.kill(parent_of(process.pid), signal.SIGKILL)
        await serving  # it notices
        await until(lambda: not is_alive(process.pid))
        processes.close()
        await asyncio.sleep(0)  # closing takes effect in the event loop's next turn
        zygote.end()

    asyncio.run(run())


def test_who_listens_and_speaks_no_http2_is_dialled_until_time_is_up(fixture: Fixture) -> None:
    async def run() -> None:
        async with running() as processes:

            async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.transport.abort()

            async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
                target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
                told = await processes.check_health(target, "", 0.5)
            assert told == (
                f'timeout: failed to connect service "{target}" within 500ms: '
                "context deadline exceeded"
            )

    asyncio.run(run())


def test_health_is_asked_for_as_the_kubelet_does(fixture: Fixture) -> None:
    async def run() -> None:
        async with running() as processes:
            order = fixture.order("greeter", "--port=50051", own=True, GRPCLB_LISTEN_IP=ADDRESS)
            process = await processes.start(order)
            target = f"{ADDRESS}:50051"

            async def healthy() -> bool:
                return await processes.check_health(target, "", 1.0) == ""

            async with asyncio.timeout(10):
                while not await healthy():  # noqa: ASYNC110 - that is what probing is
                    await asyncio.sleep(0.01)
            told = await processes.check_health(target, "no.such.Service", 1.0)
            # The greeter's health service gives no details.
            assert told == "error: health rpc probe failed: rpc error: code = NotFound desc = "
            await process.kill()
            told = await processes.check_health(target, "", 0.5)
            assert told == (
                f'timeout: failed to connect service "{target}" within 500ms: '
                "context deadline exceeded"
            )

    asyncio.run(run())
