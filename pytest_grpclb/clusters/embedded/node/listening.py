"""Where processes listen that share this machine's addresses: who takes a whole port, who is to.

:source: Linux, Documentation/networking/proc_net_tcp.rst
"""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.network.relay import Place, Relay

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["free_port", "lead_to_private_port", "shared_listener"]

_LISTENING = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ALL = {"00000000": "0.0.0.0", "0" * 32: "[::]"}  # noqa: S104 - looked for, not listened on
_FIRST_PORT, _LAST_PORT = 10_000, 32_000
"""Below the ports that Linux gives to outgoing connections, 32768 and up."""
_TRIES = 100
_LOOK_S = 0.02


def shared_listener(place: Place) -> str:
    """Return what is listened on where *place* is reached only as one of all addresses.

    Nothing if somebody listens on that very address, or nobody at all.
    """
    address, port = place
    own = socket.inet_aton(address)[::-1].hex().upper()
    wanted = f"{port:04X}"
    shared = ""
    for entry in _listeners(_TABLES):
        host, _, number = entry.partition(":")
        if number != wanted:
            continue
        if host == own or host.endswith(f"FFFF0000{own}"):
            return ""
        if host in _ALL:
            shared = f"{_ALL[host]}:{port}"
    return shared


def _listeners(tables: Iterable[Path]) -> Iterable[str]:
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:  # a machine without IPv6
            continue
        for line in lines:
            words = line.split(None, 4)
            if words[3] == _LISTENING:
                yield words[1]


def free_port() -> int:
    """Return a port that nobody listens on, on any address.

    :raises OSError: if a hundred ports are taken
    """
    failure = OSError("no port is free")
    for _ in range(_TRIES):
        port = random.randint(_FIRST_PORT, _LAST_PORT)  # noqa: S311 - so that runs seldom collide
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("", port))
            except OSError as error:
                failure = error
            else:
                return port
    raise failure


async def lead_to_private_port(place: Place, port: int) -> None:
    """Lead connections to *place* to a process of this machine that listens on *port*.

    From the moment on at which it does so, until this is cancelled: the place then refuses.

    :raises OSError: if the place is taken
    """
    while not await _is_listened_on(port):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(_LOOK_S)
    transports: set[asyncio.Transport] = set()
    relay = Relay(place, transports)
    relay.lead_to([("127.0.0.1", port)])
    try:
        await asyncio.Event().wait()
    finally:
        relay.close()
        for transport in transports:
            transport.abort()


async def _is_listened_on(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        except OSError:
            return False
    return True
