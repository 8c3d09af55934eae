"""Real programs, real backends and a real DNS server, all on loopback."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import socket
import subprocess
import sys
import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dns.message
import dns.rrset
import grpc
import pytest

from pytest_grpclb._pb import driver_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHOD = "/helloworld.Greeter/SayHello"
ROUND_ROBIN = '{"loadBalancingConfig":[{"round_robin":{}}]}'
DEADLINE_S = 20.0
"""A condition that takes so long does not come true."""

# The tests' own channels: a proxy of the environment would catch them, and a shared subchannel
# would let one test's connection serve another's.
CLIENT_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


class Program:
    """A program of pods in a process of its own."""

    def __init__(self, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GRPC", "POD_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest_grpclb.programs", *argv],
            stderr=subprocess.PIPE,
            text=True,
            env=inherited | {"GRPCLB_LISTEN_IP": "127.0.0.1"} | environment,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def log(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Return the first match in the log, once it is there."""

        def match() -> re.Match[str] | None:
            return re.search(pattern, "".join(self._lines))

        with self._changed:
            self._changed.wait_for(lambda: match() or self._ended, DEADLINE_S)
            found = match()
        assert found, f"no {pattern!r} in the log:\n{self.log}"
        return found

    @property
    def address(self) -> str:
        return self.wait_for_log(r"listening on (\S+)").group(1)

    def exit_code(self) -> int:
        """Return the exit code, once the program has ended."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join()
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def _starting() -> Iterator[Callable[..., Program]]:
    with contextlib.ExitStack() as stack:

        def start(*argv: str, **environment: str) -> Program:
            program = Program(argv, environment)
            stack.callback(program.close)
            return program

        yield start


@pytest.fixture
def start_program() -> Iterator[Callable[..., Program]]:
    """Start a program: flags, then environment variables by keyword."""
    with _starting() as start:
        yield start


@pytest.fixture(scope="session")
def greeters() -> Iterator[list[Program]]:
    """Three greeters, pods a, b and c, whose connections live for ever."""
    with _starting() as start:
        programs = [
            start("greeter", "--port=0", POD_UID=f"uid-{name}", POD_NAME=f"pod-{name}")
            for name in "abc"
        ]
        for program in programs:
            assert program.address
        yield programs


@pytest.fixture(scope="session")
def driver_program() -> Iterator[Program]:
    with _starting() as start:
        program = start("driver", "--port=0")
        assert program.address
        yield program


class Run:
    """One run of the driver, read to its end unless told otherwise."""

    def __init__(self, address: str, first: driver_pb2.Plan | driver_pb2.Resume) -> None:
        self._channel = grpc.insecure_channel(address, options=CLIENT_OPTIONS)
        self._requests: queue.SimpleQueue[driver_pb2.RunRequest | None] = queue.SimpleQueue()
        if isinstance(first, driver_pb2.Plan):
            self._requests.put(driver_pb2.RunRequest(plan=first))
        else:
            self._requests.put(driver_pb2.RunRequest(resume=first))
        run = self._channel.stream_stream(
            "/grpclb.driver.v1.Driver/Run",
            request_serializer=driver_pb2.RunRequest.SerializeToString,
            response_deserializer=driver_pb2.RunResponse.FromString,
        )
        self.stream = run(iter(self._requests.get, None), timeout=DEADLINE_S, wait_for_ready=True)
        self.started = driver_pb2.Started()
        self.finished = driver_pb2.Finished()
        self.reports: list[driver_pb2.ChannelReport] = []
        self.rows = driver_pb2.Columns()
        self.taken = 0

    def send(self, request: driver_pb2.RunRequest) -> None:
        self._requests.put(request)

    def stop(self) -> None:
        self.send(driver_pb2.RunRequest(stop=driver_pb2.Stop()))

    def read_until(self, condition: Callable[[], Any]) -> Run:
        while not condition():
            response = next(self.stream)
            self.taken += 1
            match response.WhichOneof("response"):
                case "started":
                    self.started = response.started
                case "columns":
                    self.rows.MergeFrom(response.columns)
                case "report":
                    self.reports.append(response.report)
                case "finished":
                    self.finished = response.finished
        return self

    def finish(self) -> Run:
        with contextlib.suppress(StopIteration):
            self.read_until(lambda: False)
        return self

    def take(self) -> None:
        """Say that what was read has arrived."""
        taken = driver_pb2.Taken(responses=self.taken)
        self.send(driver_pb2.RunRequest(taken=taken))

    def close(self) -> None:
        self._requests.put(None)
        self.stream.cancel()
        self._channel.close()

    @property
    def counts(self) -> dict[str, int]:
        """Calls by what the backend called itself; "" where nothing named it."""
        names = [*self.rows.identities, ""]
        counts = dict.fromkeys(names[:-1], 0)
        for backend in self.rows.backend:
            counts[names[backend]] = counts.get(names[backend], 0) + 1
        return counts

    @property
    def rebuilds(self) -> int:
        """Pickers built while calls were counted, over all channels."""
        first, last = self.reports[0], self.reports[-1]
        return sum(
            after.picker_rebuilds - before.picker_rebuilds
            for before, after in zip(first.channels, last.channels, strict=True)
        )


@pytest.fixture
def start_run(driver_program: Program) -> Iterator[Callable[..., Run]]:
    """Start a plan, or resume one, at the session's driver if no other address is given."""
    with contextlib.ExitStack() as stack:

        def start(
            first: driver_pb2.Plan | driver_pb2.Resume, address: str = driver_program.address
        ) -> Run:
            run = Run(address, first)
            stack.callback(run.close)
            return run

        yield start


def call(**fields: Any) -> driver_pb2.Call:
    defaults = {
        "method": METHOD,
        "timeout_s": DEADLINE_S,
        "backend_key": "grpclb-backend",
        "wait_for_ready": True,
    }
    return driver_pb2.Call(**{**defaults, **fields})


def addresses(programs: list[Program]) -> list[str]:
    return [program.address for program in programs]


def plan_for(addresses: list[str], **fields: Any) -> driver_pb2.Plan:
    """Return a plan of 30 round-robin calls of the greeter, 4 at a time, unless told otherwise."""
    load = {} if "open" in fields else {"closed": driver_pb2.Closed(concurrency=4)}
    defaults: dict[str, Any] = {
        "target": "ipv4:" + ",".join(addresses),
        "service_config": ROUND_ROBIN,
        "channels": 1,
        "own_subchannel_pools": True,
        "calls": 30,
        "call": call(),
        "warm_up": driver_pb2.WarmUp(backends=len(addresses), timeout_s=DEADLINE_S),
    }
    return driver_pb2.Plan(**{**defaults, **load, **fields})


@dataclass
class Backend:
    """A backend in this process, whose behaviour a test chooses."""

    behave: Callable[[Any], bytes]
    server: Any = None
    address: str = ""
    calls: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    peers: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def serve(self, _request: bytes, context: Any) -> bytes:
        with self.changed:
            self.calls += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.peers.add(context.peer())
            self.changed.notify_all()
        try:
            return self.behave(context)
        finally:
            with self.changed:
                self.in_flight -= 1
                self.changed.notify_all()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE_S)


@pytest.fixture
def start_backend() -> Iterator[Callable[..., Backend]]:
    """Start a backend in this process that answers as *behave* does, at *host* or by TLS."""
    with contextlib.ExitStack() as stack:

        def start(
            behave: Callable[[Any], bytes], *, host: str = "127.0.0.1:0", credentials: Any = None
        ) -> Backend:
            backend = Backend(behave)
            pool = futures.ThreadPoolExecutor(32)
            server = grpc.server(pool, options=(("grpc.so_reuseport", 0),))
            handler = grpc.unary_unary_rpc_method_handler(backend.serve)
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("helloworld.Greeter", {"SayHello": handler}),)
            )
            if credentials is None:
                port = server.add_insecure_port(host)
            else:
                port = server.add_secure_port(host, credentials)
            server.start()
            stack.callback(pool.shutdown)
            stack.callback(lambda: server.stop(None).wait())
            backend.server = server
            backend.address = f"{host.rpartition(':')[0]}:{port}"
            return backend

        yield start


def named(uid: str) -> Callable[[Any], bytes]:
    """Return the behaviour of a backend that answers at once and names itself *uid*."""

    def behave(context: Any) -> bytes:
        context.send_initial_metadata((("grpclb-backend", uid),))
        return b""

    return behave


class DnsServer:
    """Answers A queries by UDP from a table that a test may change at any time."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            wire, client = self._socket.recvfrom(4096)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            answer = dns.message.make_response(query)
            question = query.question[0]
            addresses = self.addresses.get(question.name.to_text(omit_final_dot=True))
            if question.rdtype == 1 and addresses:
                answer.answer.append(dns.rrset.from_text(question.name, 5, "IN", "A", *addresses))
            self._socket.sendto(answer.to_wire(), client)

    def close(self) -> None:
        host, _, port = self.address.partition(":")
        self._socket.sendto(b"", (host, int(port)))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def dns_server() -> Iterator[DnsServer]:
    server = DnsServer()
    yield server
    server.close()
