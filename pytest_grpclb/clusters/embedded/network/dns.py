"""The cluster's DNS without I/O: a query in, an answer out, from the Services in the store.

The messages are written by hand, for they are few: A, SRV, CNAME and SOA records, and EDNS(0).
A DNS library would cost a tenth of a second of each run's start; the tests hold this against one.

:source: RFC 1035, section 4 (messages); RFC 2782 (SRV); RFC 6891 (EDNS); RFC 2308 (negative
    answers); Kubernetes DNS-Based Service Discovery, version 1.1.0
"""

from __future__ import annotations

import ipaddress
import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_grpclb.clusters.embedded.store.store import Store

__all__ = [
    "DOMAIN",
    "TTL_S",
    "Found",
    "Name",
    "Names",
    "Record",
    "Zone",
    "address_record",
    "answer",
    "authority_record",
    "service_record",
]

DOMAIN = "cluster.local"
TTL_S = 30
"""What kubeadm sets for CoreDNS (kubeadm, ``phases/addons/dns/manifests.go``)."""

A, NS, CNAME, SOA, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 3, 4, 5, 16
_QR, _AA, _TC, _RD, _OPCODE = 0x8000, 0x0400, 0x0200, 0x0100, 0x7800

_UDP_SIZE = 512
"""What a client without EDNS takes at most (RFC 1035, section 4.2.1)."""
_EDNS_SIZE = 4096
_TCP_SIZE = 65535
_QUESTION_AT = 12
"""The question follows the header, so its name can be pointed at."""
_LONGEST_LABEL = 63
_LONGEST_NAME = 255

Name = tuple[str, ...]
"""Labels, from the host to the root, in lower case."""


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record of class IN."""

    name: Name
    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What the zone has for a name: records of all types, and those that belong beside them."""

    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


class Names(Protocol):
    """A zone that is answered for."""

    @property
    def domain(self) -> Name:
        """The name that all its names end with."""

    @property
    def ttl_s(self) -> int:
        """For how long an answer may be kept."""

    def soa(self) -> Record:
        """Return the zone's SOA."""

    def find(self, name: Name) -> Found | None:
        """Return what there is for a name of the zone; None: the name does not exist."""


def address_record(name: Name, address: str) -> Record:
    """Return an A record."""
    return Record(name, A, _packed(address))


def service_record(name: Name, target: Name, port: int, *, share: int) -> Record:
    """Return an SRV record, one of *share* that stand side by side."""
    return Record(name, SRV, _srv(target, port, share=share))


def authority_record(domain: Name, *, serial: int, ttl_s: int) -> Record:
    """Return an SOA record."""
    times = struct.pack(">5I", serial & 0xFFFFFFFF, 7200, 1800, 86400, ttl_s)
    names = _encoded(("ns", "dns", *domain)) + _encoded(("hostmaster", *domain))
    return Record(domain, SOA, names + times)


class Zone:
    """The names of one cluster, read from the store at the moment of the query.

    :source: Kubernetes DNS-Based Service Discovery, section 2; CoreDNS, plugin ``kubernetes``
    """

    ttl_s = TTL_S

    def __init__(self, store: Store, domain: str = DOMAIN) -> None:
        self._store = store
        self.domain: Name = tuple(domain.split("."))

    def soa(self) -> Record:
        """Return the zone's SOA; its revision of the store as the serial."""
        return authority_record(self.domain, serial=self._store.revision, ttl_s=self.ttl_s)

    def find(self, name: Name) -> Found | None:  # noqa: PLR0911 - one for each form of name
        """Return what there is for a name of the zone; None: the name does not exist."""
        match name[: len(name) - len(self.domain)]:
            case ():
                nameserver = Record(name, NS, _encoded(("ns", "dns", *self.domain)))
                return Found((self.soa(), nameserver))
            case ("svc",) | ("pod",):
                return Found()
            case (namespace, "svc" | "pod"):
                return Found() if self._store.find("namespaces", namespace) else None
            case (host, namespace, "pod"):
                return self._pod(name, host, namespace)
            case (service, namespace, "svc"):
                return self._service(name, service, namespace, lambda _: True)
            case (port, protocol, service, namespace, "svc"):
                if not (port[:1] == protocol[:1] == "_"):
                    return None
                wanted = (port[1:], protocol[1:])
                found = self._service(name, service, namespace, lambda each: each == wanted)
                if found is None:
                    return None
                srv = tuple(record for record in found.records if record.type == SRV)
                return Found(srv, found.additional) if srv else None
            case (host, service, namespace, "svc"):
                return self._endpoint(name, host, service, namespace)
            case _:
                return None

    def _pod(self, name: Name, host: str, namespace: str) -> Found | None:
        """Answer for a dashed address, whether or not a pod has it: kubeadm's ``pods insecure``."""
        if self._store.find("namespaces", namespace) is None:
            return None
        data = _address(host.replace("-", "."))
        return None if data is None else Found((Record(name, A, data),))

    def _service(
        self,
        name: Name,
        service: str,
        namespace: str,
        wanted: Callable[[tuple[str, str]], bool],
    ) -> Found | None:
        found = self._store.find("services", service, namespace)
        if found is None:
            return None
        spec = found["spec"]
        if spec.get("type") == "ExternalName":
            target = _encoded(tuple(spec["externalName"].rstrip(".").lower().split(".")))
            return Found((Record(name, CNAME, target),))
        at = (service, namespace, "svc", *self.domain)
        if spec.get("clusterIP", "None") != "None":
            hosts = [(at, spec["clusterIP"], _ports(spec.get("ports"), "port"))]
        else:
            hosts = [
                ((host, *at), address, _ports(ports, "port"))
                for host, address, ports in self._ready(service, namespace)
            ]
        if not hosts:  # as CoreDNS: a headless Service without a ready endpoint is no name at all
            return None
        addresses = dict.fromkeys(address for _, address, _ in hosts)
        records = [address_record(name, address) for address in addresses]
        beside: dict[Record, None] = {}
        for host, address, ports in hosts:
            for (port_name, protocol), port in ports.items():
                if wanted((port_name, protocol)):
                    records.append(service_record(name, host, port, share=len(hosts)))
                    beside[address_record(host, address)] = None
        return Found(tuple(records), tuple(beside))

    def _endpoint(self, name: Name, host: str, service: str, namespace: str) -> Found | None:
        records: dict[Record, None] = {}
        for named, address, ports in self._ready(service, namespace):
            if named == host:
                records[address_record(name, address)] = None
                for port in _ports(ports, "port").values():
                    records[service_record(name, name, port, share=1)] = None
        return Found(tuple(records)) if records else None

    def _ready(self, service: str, namespace: str) -> Iterator[tuple[str, str, Any]]:
        """Yield host name, address and ports of each endpoint that is to be used."""
        for piece in self._store.list("endpointslices.discovery.k8s.io", namespace):
            if piece["metadata"].get("labels", {}).get("kubernetes.io/service-name") != service:
                continue
            for endpoint in piece.get("endpoints") or ():
                if endpoint.get("conditions", {}).get("ready") is False:
                    continue
                for address in endpoint["addresses"]:
                    host = endpoint.get("hostname") or address.replace(".", "-")
                    yield host, address, piece.get("ports")


def answer(
    query: bytes,
    zone: Names,
    *,
    over_tcp: bool = False,
    shuffle: Callable[[list[Record]], None] = random.shuffle,
) -> bytes | None:
    """Return the answer to a query; None if it is not even worth an error.

    :param shuffle: puts records into another order, as CoreDNS's ``loadbalance`` does
    """
    if len(query) < _QUESTION_AT:
        return None
    identity, flags, questions, _, _, extra = struct.unpack_from(">6H", query)
    if flags & _QR:
        return None  # answering answers would let two servers talk to each other for ever
    flags = _QR | flags & (_OPCODE | _RD)
    if flags & _OPCODE:
        return _header(identity, flags | NOTIMP)
    if questions != 1:
        return _header(identity, flags | FORMERR)
    try:
        name, at = _decode_name(query, _QUESTION_AT)
        kind, class_ = struct.unpack_from(">2H", query, at)
        question = query[_QUESTION_AT : at + 4]
        edns = _edns(query, at + 4, extra)
    except (ValueError, struct.error):
        return _header(identity, flags | FORMERR)
    size = _TCP_SIZE if over_tcp else min(max(_UDP_SIZE, edns.size), _EDNS_SIZE)
    if edns.version:
        rcode, sections = BADVERS, _NOTHING
    elif class_ not in (IN, ANY) or name[-len(zone.domain) :] != zone.domain:
        rcode, sections = REFUSED, _NOTHING
    else:
        flags |= _AA
        rcode, sections = _look_up(zone, name, kind, shuffle)
    option = _option(rcode) if edns.present else b""
    flags |= rcode & 0xF
    return _message(identity, flags, question, name, sections, option, size, ttl_s=zone.ttl_s)


# --- what to say


@dataclass(frozen=True, slots=True)
class _Sections:
    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


_NOTHING = _Sections()


def _look_up(
    zone: Names, name: Name, kind: int, shuffle: Callable[[list[Record]], None]
) -> tuple[int, _Sections]:
    found = zone.find(name)
    if found is None:
        return NXDOMAIN, _Sections(authority=(zone.soa(),))
    records = [record for record in found.records if record.type in (kind, CNAME) or kind == ANY]
    if not records:
        return NOERROR, _Sections(authority=(zone.soa(),))
    shuffle(records)
    additional = found.additional if kind in (SRV, ANY) else ()
    return NOERROR, _Sections(answer=tuple(records), additional=additional)


def _ports(ports: Any, key: str) -> dict[tuple[str, str], int]:
    return {
        (port.get("name") or "", port.get("protocol", "TCP").lower()): port[key]
        for port in ports or ()
    }


def _address(text: str) -> bytes | None:
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        return None


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def _srv(target: Name, port: int, *, share: int) -> bytes:
    """Return SRV data, the weight as CoreDNS gives it: 100 shared by all (``etcd/msg``)."""
    return struct.pack(">3H", 0, max(100 // share, 1), port) + _encoded(target)


# --- messages


@dataclass(frozen=True, slots=True)
class _Edns:
    present: bool = False
    size: int = 0
    version: int = 0


def _edns(query: bytes, at: int, records: int) -> _Edns:
    """Read the OPT record; no other belongs into the rest of a query."""
    for _ in range(records):
        _, at = _decode_name(query, at)
        kind, size, ttl, length = struct.unpack_from(">2HIH", query, at)
        if kind == OPT:
            return _Edns(True, size, ttl >> 16 & 0xFF)
        at += 10 + length
    return _Edns()


def _option(rcode: int) -> bytes:
    return struct.pack(">B2HIH", 0, OPT, _EDNS_SIZE, rcode >> 4 << 24, 0)


def _decode_name(message: bytes, at: int) -> tuple[Name, int]:
    """Return a name and where it ends.

    :raises ValueError: if it is none; queries have no use for compression, so that is none
    """
    labels: list[str] = []
    start = at
    while True:
        if at >= len(message):
            raise ValueError("the message ends within a name")
        length = message[at]
        at += 1
        if length == 0:
            return tuple(labels), at
        if length > _LONGEST_LABEL or at + length > len(message) or at - start > _LONGEST_NAME:
            raise ValueError(f"no label of {length} bytes fits at {at}")
        labels.append(message[at : at + length].decode("latin-1").lower())
        at += length


def _encoded(name: Name) -> bytes:
    parts = [bytes([len(label)]) + label.encode("latin-1") for label in name]
    return b"".join(parts) + b"\0"


def _header(identity: int, flags: int, counts: Iterable[int] = (0, 0, 0, 0)) -> bytes:
    return struct.pack(">6H", identity, flags, *counts)


def _message(
    identity: int,
    flags: int,
    question: bytes,
    name: Name,
    sections: _Sections,
    option: bytes,
    size: int,
    *,
    ttl_s: int,
) -> bytes:
    """Assemble an answer; what does not fit into *size* bytes is left out, and it says so."""
    room = size - _QUESTION_AT - len(question) - len(option)
    body = []
    counts = []
    for section in (sections.answer, sections.authority, sections.additional):
        count = 0
        for record in section:
            owner = (0xC000 | _QUESTION_AT).to_bytes(2) if record.name == name else None
            piece = (owner or _encoded(record.name)) + struct.pack(
                ">2HIH", record.type, IN, ttl_s, len(record.data)
            )
            piece += record.data
            if len(piece) > room:
                # Additional records are a courtesy: no truncation without them (RFC 2181, 9).
                flags |= _TC if section is not sections.additional else 0
                room = 0
                break
            room -= len(piece)
            body.append(piece)
            count += 1
        counts.append(count)
    counts[2] += bool(option)
    return b"".join((_header(identity, flags, (1, *counts)), question, *body, option))
