"""Who answered a call: as the proxy says, the connection's other end, the reply, or the service.

Ways are tried in a given order; the first that names somebody is kept, so that all calls of a run
are judged by one kind of evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pytest_grpclb.programs.peer import Peers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_grpclb._pb import driver_pb2

__all__ = ["Attributor", "Way", "field_of", "last_of", "ways_of"]


class Way(Protocol):
    """One way to learn who answered an asyncio call."""

    @property
    def text(self) -> str:
        """What it is, for people."""

    async def name(self, call: Any, *, answered: bool, ended: bool) -> tuple[str | None, str]:
        """Return what names the backend, and, if nothing does, why.

        :param answered: whether there is a reply
        :param ended: whether the call has; a stream that is open has no trailing metadata yet
        """


class _Header:
    def __init__(self, key: str) -> None:
        self._key = key
        self.text = f"response header {key!r}"

    async def name(
        self,
        call: Any,
        *,
        answered: bool,  # noqa: ARG002
        ended: bool,
    ) -> tuple[str | None, str]:
        value = (await call.initial_metadata()).get(self._key)
        if value is None and ended:
            value = (await call.trailing_metadata()).get(self._key)
        if value is None:
            return None, "absent"
        return (value.hex() if isinstance(value, bytes) else last_of(value)), ""


class _Peer:
    text = "peer of the connection"

    def __init__(self, addresses: Iterable[str]) -> None:
        self._pods = frozenset(addresses)
        self._peers = Peers()
        self._trusted = False

    async def name(
        self,
        call: Any,
        *,
        answered: bool,  # noqa: ARG002
        ended: bool,  # noqa: ARG002
    ) -> tuple[str | None, str]:
        peer = self._peers.of(call)
        if peer is None:
            return None, self._peers.problem or "unknown"
        # Once it was a pod, it is pods that are dialled: those that came later as well.
        if not self._trusted:
            if peer.rpartition(":")[0].strip("[]") not in self._pods:
                return None, f"{peer} is no pod's address"
            self._trusted = True
        return peer, ""


class _Field:
    def __init__(self, name: str, numbers: Sequence[int]) -> None:
        self._numbers = tuple(numbers)
        self.text = f"reply field {name!r}"

    async def name(self, call: Any, *, answered: bool, ended: bool) -> tuple[str | None, str]:
        if not ended:
            return None, "the replies of streams are not looked at"
        value = field_of(await call, self._numbers) if answered else None
        return value or None, "" if value else "empty" if answered else "no reply"


def ways_of(call: driver_pb2.Call) -> list[Way]:
    """Return the ways that a plan's call names, in its order."""
    ways: list[Way] = []
    for each in call.attributions:
        kind = each.WhichOneof("way")
        if kind == "header":
            ways.append(_Header(each.header))
        elif kind == "peer":
            ways.append(_Peer(each.peer.addresses))
        else:
            ways.append(_Field(each.field.name, each.field.numbers))
    if not ways and call.backend_key:
        ways.append(_Header(call.backend_key))
    return ways


class Attributor:
    """Says who answered, by the first of several ways that ever named somebody."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._ways = tuple(ways)
        self._kept: Way | None = None
        self._why: dict[str, str] = {}

    @property
    def way(self) -> str:
        """The way that is kept, for people; empty: none has named anybody yet."""
        return "" if self._kept is None else self._kept.text

    @property
    def tried(self) -> tuple[str, ...]:
        """Each way that named nobody, and why, for people."""
        return tuple(f"{text}: {why}" for text, why in self._why.items())

    async def name(self, call: Any, *, answered: bool, ended: bool = True) -> str | None:
        """Return what names who answered *call*; None: nothing does.

        :param answered: whether there is a reply
        :param ended: whether the call has
        """
        if self._kept is not None:
            return (await self._kept.name(call, answered=answered, ended=ended))[0]
        for way in self._ways:
            named, why = await way.name(call, answered=answered, ended=ended)
            if named is not None:
                self._kept = way
                return named
            if answered or way.text not in self._why:
                self._why[way.text] = why
        return None


def last_of(value: str) -> str:
    """Return the last of several values: a proxy names each place where it tried."""
    return value.rpartition(",")[2].strip()


def field_of(message: bytes, numbers: Sequence[int]) -> str | None:
    """Return the text of a field that is *numbers* deep in an encoded message; None: it is absent.

    Of a field that is there several times, the last one holds.

    :raises ValueError: if the message is not encoded as it should be

    :source: Protocol Buffers documentation, "Encoding"
    """
    found: bytes | None = None
    wanted, deeper = numbers[0], numbers[1:]
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            if number == wanted:
                found = message[at : at + length]
            at += length
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"field {number} of a reply has the unknown wire type {kind}")
    if found is None:
        return None
    return field_of(found, deeper) if deeper else found.decode(errors="replace")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a reply ends within a number")
