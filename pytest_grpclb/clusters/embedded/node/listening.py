"""Where processes listen that share this machine's addresses: who takes a whole port, who is to.

:source: Linux, Documentation/networking/proc_net_tcp.rst; proc_pid_fd(5), proc_pid_stat(5)
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.network.relay import Place, Relay

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "free_port",
    "lead_to_private_port",
    "listeners_of",
    "pause_s",
    "shared_listener",
    "told_of_shared",
    "until_listening",
]

_LISTENING = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ALL = {"00000000": "0.0.0.0", "0" * 32: "[::]"}  # noqa: S104 - looked for, not listened on
_FIRST_PORT, _LAST_PORT = 10_000, 32_000
"""Below the ports that Linux gives to outgoing connections, 32768 and up."""
_TRIES = 100
_LOOK_S, _LATE_LOOK_S = 0.02, 1.0
"""Pauses between two looks: at first, and in the end."""


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
        for words in _rows(table):
            if words[3] == _LISTENING:
                yield words[1]


def _rows(table: Path) -> Iterable[list[str]]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:  # a machine without IPv6
        return
    for line in lines:
        yield line.split(None, 10)


def told_of_shared(place: Place, shared: str) -> str:
    """Return what is wrong where only *shared*, on all addresses, stands for *place*."""
    return (
        f"nothing listens on {place[0]}:{place[1]}, only on {shared}: on all addresses, which the "
        "pods of the embedded cluster share"
    )


def listeners_of(session: int) -> frozenset[str]:
    """Return where the processes of a session listen, each as "address:port".

    :param session: the number of its first process
    """
    sockets = set(_sockets_of(session))
    if not sockets:
        return frozenset()
    found = set()
    for table in _TABLES:
        for words in _rows(table):
            if words[3] == _LISTENING and words[9] in sockets:
                found.add(_told(words[1]))
    return frozenset(found)


async def until_listening(session: int, place: Place) -> str:
    """Return when a session's processes listen on *place*, or on its port for all addresses.

    What is returned tells what is wrong in the second case; nothing in the first.
    """
    own = f"{place[0]}:{place[1]}"
    everywhere = {f"{address}:{place[1]}" for address in _ALL.values()}
    began_s = time.monotonic()
    while True:
        # Whose a socket is takes a look at every process of the machine: only where there is one.
        if any(_told(entry) in {own, *everywhere} for entry in _listeners(_TABLES)):
            listeners = listeners_of(session)
            if own in listeners:
                return ""
            if shared := listeners & everywhere:
                return told_of_shared(place, min(shared))
        await asyncio.sleep(pause_s(time.monotonic() - began_s))


def pause_s(waited_s: float) -> float:
    """Return the pause between two looks for what may never come, on an event loop of many."""
    return min(max(_LOOK_S, waited_s / 10), _LATE_LOOK_S)


def _sockets_of(session: int) -> Iterable[str]:
    """Yield the inodes of the sockets that a session's processes hold."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        # A process may end at any moment, and one of another user keeps its descriptors to itself.
        with contextlib.suppress(OSError):
            # Its name, in brackets, may hold anything.
            words = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(words[3]) != session:
                continue
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    kind, _, inode = str(descriptor.readlink()).partition(":[")
                    if kind == "socket":
                        yield inode.rstrip("]")


def _told(entry: str) -> str:
    """Return "address:port" as people write it."""
    host, _, port = entry.partition(":")
    return f"{_address(host)}:{int(port, 16)}"


def _address(host: str) -> str:
    """Return an address as people write it: Linux tells it as 32-bit words of its own order."""
    words = bytes.fromhex(host)
    turned = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    address = ipaddress.ip_address(turned)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped) if address.ipv4_mapped else f"[{address}]"


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
