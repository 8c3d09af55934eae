"""What all programs share: flags and environment in, an address to listen on, a signal to end."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import math
import os
import signal
import sys
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

LISTEN_IP = "GRPCLB_LISTEN_IP"
"""The one address to listen on. Pods that share a machine's network share its wildcard address."""

MISUSED = 2
"""Exit code for flags and environment that cannot be used, as argparse has it."""

FAILED = 1

# gRPC keeps times as milliseconds in a C int.
_MAX_S = (2**31 - 1) // 1000


class ProgramError(Exception):
    """A program cannot do its work; the message is for whoever reads the pod's log."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def parser(name: str, description: str | None, *, port: int) -> argparse.ArgumentParser:
    """Return a parser of flags that knows ``--port``.

    :param port: default port
    """
    flags = argparse.ArgumentParser(prog=name, description=description, allow_abbrev=False)
    flags.add_argument("--port", type=_port, default=port, help="0: any free port, told in the log")
    return flags


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used; expected a port, 0 to 65535")
    return int(text)


def seconds_from_environment(name: str) -> float | None:
    """Return the environment variable *name* as seconds; None: it is unset or empty.

    :raises ProgramError: if it is no positive number of seconds that gRPC can keep
    """
    text = os.environ.get(name, "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.001 <= seconds <= _MAX_S:
        raise ProgramError(
            f"{name}={text!r} cannot be used; expected seconds, 0.001 to {_MAX_S}, "
            "or leave it unset",
            exit_code=MISUSED,
        )
    return seconds


def start_log() -> None:
    """Log to standard error, where a pod's log is read from."""
    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        level=logging.INFO,
        force=True,  # a forked program inherits handlers of the process that it was forked from
    )


def listen(server: Any, port: int, credentials: Any = None) -> str:
    """Have *server* listen on the pod's own address, or on all, and return "address:port".

    :param credentials: the server's TLS; None: plaintext
    :raises ProgramError: if the address is none, or the port cannot be had
    """
    chosen = os.environ.get(LISTEN_IP, "")
    # gRPC refuses [::] on a machine whose kernel has no IPv6.
    hosts = [_host(chosen)] if chosen else ["[::]", "0.0.0.0"]  # noqa: S104 - a pod serves its network
    for host in hosts:
        try:
            place = f"{host}:{port}"
            if credentials is None:
                return f"{host}:{server.add_insecure_port(place)}"
            return f"{host}:{server.add_secure_port(place, credentials)}"
        except RuntimeError as error:  # gRPC's own log line, just above, has the system's reason
            failure = error
    raise ProgramError(
        f"cannot listen on {' or '.join(f'{host}:{port}' for host in hosts)}: the port is taken, "
        f"or the address is not this pod's; choose another --port or {LISTEN_IP}",
        exit_code=FAILED,
    ) from failure


def _host(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError as error:
        raise ProgramError(
            f"{LISTEN_IP}={address!r} cannot be used; expected an IPv4 or IPv6 address, "
            "or leave it unset to listen on all",
            exit_code=MISUSED,
        ) from error
    return f"[{ip}]" if ip.version == 6 else str(ip)


async def add_health(server: Any, service: str) -> Any:
    """Have *server* tell that it, and its *service*, serve; return what can tell otherwise."""
    state = health.aio.HealthServicer()
    for name in ("", service):
        await state.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    return state


def end_with_input(told: asyncio.Event) -> None:
    """Have *told* set as well when standard input closes: whoever started this has ended."""

    def read() -> None:
        if not os.read(0, 1024):
            asyncio.get_running_loop().remove_reader(0)
            told.set()

    asyncio.get_running_loop().add_reader(0, read)


def ending() -> asyncio.Event:
    """Return an event that is set when the program is told to end, by SIGTERM or SIGINT."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told
