"""Loopback addresses for one cluster: a 127.x.0.0/16 that no other of this machine has.

Linux answers on all of 127.0.0.0/8, so every pod and every Service can have an address of its own
without any privilege. A block is claimed by binding an abstract Unix socket named after it: the
kernel lets go of it when the last process that holds it is gone, whatever ended that process.

:source: unix(7), "Abstract sockets"; RFC 5735, section 3 (127.0.0.0/8)
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_grpclb.errors import GrpclbError, NoFreeBlockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["BLOCKS", "AddressInUseError", "AddressPool", "Block", "Claim", "claim_block", "listen"]

BLOCKS: Sequence[int] = range(32, 224)
"""Clear of 127.0 (localhost; distributions use 127.0.0.53 and 127.0.1.1) and of 127.255."""

API_PORT = 6443
DNS_PORT = 1053
"""53 would need a privilege; clients are told the port."""


class AddressInUseError(GrpclbError):
    """A loopback address and port that the cluster needs are taken by another program."""

    def __init__(self, address: str, port: int, *, purpose: str) -> None:
        super().__init__(
            f"{purpose} cannot listen on {address}:{port}: another program does, there or on all "
            f"addresses; find it with `ss -ltnp 'sport = :{port}'` and end it, or change the port"
        )
        self.address, self.port, self.purpose = address, port, purpose


@dataclass(frozen=True, slots=True)
class Block:
    """The addresses 127.x.0.0 to 127.x.255.255, by what they are for."""

    number: int

    def address(self, third: int, fourth: int) -> str:
        """Return 127.x.*third*.*fourth*."""
        return f"127.{self.number}.{third}.{fourth}"

    @property
    def api(self) -> str:
        """Return where the Kubernetes API listens."""
        return self.address(0, 1)

    @property
    def node(self) -> str:
        """Return the address of the one node."""
        return self.address(0, 2)

    @property
    def ingress(self) -> str:
        """Return where calls from outside come in, once there is an Ingress."""
        return self.address(0, 3)

    @property
    def dns(self) -> str:
        """Return where the cluster's DNS listens."""
        return self.address(0, 10)

    def pods(self) -> AddressPool:
        """Return the pool that pods get their addresses from."""
        return AddressPool(self.address(1, 1), self.address(127, 254))

    def services(self) -> AddressPool:
        """Return the pool that Services get their ClusterIPs from."""
        return AddressPool(self.address(128, 1), self.address(255, 254))


class AddressPool:
    """Hands out the addresses of a range; one that came back is the last to be given again.

    A client that still holds an address of a pod that has gone must not meet another pod there.
    """

    def __init__(self, first: str, last: str) -> None:
        self._first, self._last = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
        self._fresh: Iterator[int] = iter(range(int(self._first), int(self._last) + 1))
        self._returned: deque[str] = deque()
        self._held: set[str] = set()

    def __contains__(self, address: str) -> bool:
        try:
            return self._first <= ipaddress.IPv4Address(address) <= self._last
        except ValueError:
            return False

    def take(self) -> str:
        """Return an address that nobody holds.

        :raises LookupError: if all are held
        """
        for number in self._fresh:
            address = str(ipaddress.IPv4Address(number))
            if address not in self._held:
                self._held.add(address)
                return address
        while self._returned:
            address = self._returned.popleft()
            if address not in self._held:
                self._held.add(address)
                return address
        raise LookupError(
            f"all {len(self._held)} addresses {self} are held; delete what holds them"
        )

    def is_free(self, address: str) -> bool:
        """Tell whether a certain address of the range is held by nobody."""
        return address in self and address not in self._held

    def hold(self, address: str) -> None:
        """Note that somebody holds a certain address; one outside the range is left alone."""
        if address in self:
            self._held.add(address)

    def release(self, address: str) -> None:
        """Give an address back; one that is not held is left alone."""
        if address in self._held:
            self._held.remove(address)
            self._returned.append(address)

    def __str__(self) -> str:
        return f"{self._first} to {self._last}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A block, for as long as *holder* is open in any process."""

    block: Block
    holder: socket.socket

    def release(self) -> None:
        """Let another cluster have the block, unless another process holds the claim as well."""
        self.holder.close()


def claim_block(candidates: Iterable[int] = BLOCKS) -> Claim:
    """Claim the first of *candidates* that no other cluster of this machine holds.

    :raises NoFreeBlockError: if all are held
    """
    tried = 0
    for number in candidates:
        tried += 1
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            holder.bind(f"\0pytest-grpclb/127.{number}.0.0")
        except OSError as error:
            holder.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return Claim(Block(number), holder)
    raise NoFreeBlockError(tried=tried)


def listen(
    address: str, port: int, *, purpose: str, datagrams: bool = False
) -> tuple[socket.socket, ...]:
    """Listen for TCP, and for UDP on the same port if asked, on *port* or else on any free one.

    Many a laptop has another Kubernetes listening on all addresses, these included, so a port that
    is taken is no reason to fail: whoever needs it is told which one it became.

    :raises AddressInUseError: if not even a free port can be had
    """
    for attempt in (port, 0, 0, 0):  # a free TCP port may be taken in UDP: look again
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made = [stream]
        try:
            # Connections of an earlier cluster that linger in TIME_WAIT are no reason to refuse.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.bind((address, attempt))
            stream.listen(1024)
            if datagrams:
                made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                made[1].bind((address, stream.getsockname()[1]))
        except OSError as error:
            for each in made:
                each.close()
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
        else:
            return tuple(made)
    raise AddressInUseError(address, port, purpose=purpose)
