"""The cluster's DNS, asked and read by dnspython: an implementation that is not ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.network.dns import Zone, answer
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.watch import Object

NAME = "greeter.test.svc.cluster.local."


@pytest.fixture
def store() -> Store:
    store = Store()
    store.create("namespaces", {"metadata": {"name": "test"}})
    return store


def add_service(store: Store, name: str = "greeter", **spec: Any) -> None:
    metadata = {"name": name, "namespace": "test"}
    ports = [{"name": "grpc", "port": 50051, "protocol": "TCP"}]
    wanted = {"clusterIP": "None", "ports": ports, **spec}
    store.create("services", {"metadata": metadata, "spec": wanted})


def add_endpoints(store: Store, *endpoints: Object, service: str = "greeter") -> None:
    store.create(
        "endpointslices.discovery.k8s.io",
        {
            "metadata": {
                "generateName": f"{service}-",
                "namespace": "test",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "endpoints": list(endpoints),
            "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP"}],
        },
    )


def endpoint(address: str, *, ready: bool = True, **more: Any) -> Object:
    return {"addresses": [address], "conditions": {"ready": ready}, **more}


def ask(
    store: Store, name: str, kind: str = "A", *, over_tcp: bool = False, **query: Any
) -> dns.message.Message:
    asked = dns.message.make_query(name, kind, **query)
    reply = answer(asked.to_wire(), Zone(store), over_tcp=over_tcp, shuffle=lambda _: None)
    assert reply is not None
    read = dns.message.from_wire(reply)
    assert asked.is_response(read)
    return read


def texts(section: Any) -> list[str]:
    return [rrset_line for rrset in section for rrset_line in rrset.to_text().splitlines()]


def test_a_headless_service_has_the_addresses_of_its_ready_endpoints(store: Store) -> None:
    add_service(store)
    add_endpoints(store, endpoint("127.9.1.1"), endpoint("127.9.1.2", ready=False))
    add_endpoints(store, endpoint("127.9.1.3"))
    add_endpoints(store, endpoint("127.9.1.9"), service="other")
    read = ask(store, NAME)
    assert set(texts(read.answer)) == {f"{NAME} 30 IN A 127.9.1.1", f"{NAME} 30 IN A 127.9.1.3"}
    assert read.flags & dns.flags.AA


def test_a_cluster_ip_is_one_address_whatever_its_endpoints(store: Store) -> None:
    add_service(store, clusterIP="127.9.128.1")
    assert texts(ask(store, NAME).answer) == [f"{NAME} 30 IN A 127.9.128.1"]


def test_names_are_read_in_any_case_and_answered_as_asked(store: Store) -> None:
    add_service(store, clusterIP="127.9.128.1")
    read = ask(store, "GrEeter.test.svc.cluster.LOCAL.")
    assert texts(read.answer) == ["GrEeter.test.svc.cluster.LOCAL. 30 IN A 127.9.128.1"]


def test_there_is_no_ipv6_and_that_is_no_error(store: Store) -> None:
    add_service(store, clusterIP="127.9.128.1")
    read = ask(store, NAME, "AAAA")
    assert read.rcode() == dns.rcode.NOERROR
    assert read.answer == []
    [soa] = texts(read.authority)
    revision = store.revision
    assert soa == (
        "cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. "
        f"{revision} 7200 1800 86400 30"
    )


@pytest.mark.parametrize(
    "name",
    [
        "missing.test.svc.cluster.local.",
        "greeter.missing.svc.cluster.local.",
        "missing.svc.cluster.local.",
        "missing.cluster.local.",
        "a.b.c.greeter.test.svc.cluster.local.",
        "_other._tcp.greeter.test.svc.cluster.local.",
        "_grpc._udp.greeter.test.svc.cluster.local.",
        "grpc.tcp.greeter.test.svc.cluster.local.",
        "xgrpc.xtcp.greeter.test.svc.cluster.local.",
        "_grpc._tcp.missing.test.svc.cluster.local.",
        "127-9-1-7.greeter.test.svc.cluster.local.",
        "no-address.test.pod.cluster.local.",
        "127-9-1-1.missing.pod.cluster.local.",
    ],
)
def test_a_name_that_is_not_there_does_not_exist(store: Store, name: str) -> None:
    add_service(store)
    add_endpoints(store, endpoint("127.9.1.1"))
    read = ask(store, name, "SRV")
    assert read.rcode() == dns.rcode.NXDOMAIN
    assert [rrset.rdtype for rrset in read.authority] == [dns.rdatatype.SOA]


def test_a_headless_service_without_ready_endpoints_does_not_exist(store: Store) -> None:
    add_service(store)
    add_endpoints(store, endpoint("127.9.1.1", ready=False))
    assert ask(store, NAME).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "name", ["cluster.local.", "svc.cluster.local.", "test.svc.cluster.local."]
)
def test_a_name_between_names_exists_without_addresses(store: Store, name: str) -> None:
    read = ask(store, name)
    assert (read.rcode(), read.answer) == (dns.rcode.NOERROR, [])


def test_names_outside_the_zone_are_refused(store: Store) -> None:
    read = ask(store, "example.com.")
    assert (read.rcode(), read.answer, read.authority) == (dns.rcode.REFUSED, [], [])


def test_srv_of_a_headless_service_names_each_endpoint(store: Store) -> None:
    add_service(store)
    add_endpoints(store, endpoint("127.9.1.1"), endpoint("127.9.1.2", hostname="second"))
    asked = f"_grpc._tcp.{NAME}"
    read = ask(store, asked, "SRV")
    assert texts(read.answer) == [
        f"{asked} 30 IN SRV 0 50 50051 127-9-1-1.{NAME}",
        f"{asked} 30 IN SRV 0 50 50051 second.{NAME}",
    ]
    assert texts(read.additional) == [
        f"127-9-1-1.{NAME} 30 IN A 127.9.1.1",
        f"second.{NAME} 30 IN A 127.9.1.2",
    ]


def test_srv_of_a_cluster_ip_names_the_service(store: Store) -> None:
    add_service(store, clusterIP="127.9.128.1")
    asked = f"_grpc._tcp.{NAME}"
    read = ask(store, asked, "SRV")
    assert texts(read.answer) == [f"{asked} 30 IN SRV 0 100 50051 {NAME}"]
    assert texts(read.additional) == [f"{NAME} 30 IN A 127.9.128.1"]


@pytest.mark.parametrize("host", ["127-9-1-1", "first"])
def test_an_endpoint_has_a_name_of_its_own(store: Store, host: str) -> None:
    add_service(store)
    named: dict[str, Any] = {} if host != "first" else {"hostname": host}
    add_endpoints(store, endpoint("127.9.1.1", **named))
    name = f"{host}.{NAME}"
    assert texts(ask(store, name).answer) == [f"{name} 30 IN A 127.9.1.1"]
    assert texts(ask(store, name, "SRV").answer) == [f"{name} 30 IN SRV 0 100 50051 {name}"]


def test_a_pod_has_a_name_made_of_its_address(store: Store) -> None:
    name = "127-9-1-1.test.pod.cluster.local."
    assert texts(ask(store, name).answer) == [f"{name} 30 IN A 127.9.1.1"]


def test_an_external_name_is_an_alias(store: Store) -> None:
    add_service(store, type="ExternalName", externalName="Example.com", clusterIP="")
    assert texts(ask(store, NAME).answer) == [f"{NAME} 30 IN CNAME example.com."]


def crowd(store: Store) -> None:
    add_service(store)
    add_endpoints(store, *(endpoint(f"127.9.1.{number}") for number in range(1, 101)))


def test_an_answer_too_long_for_udp_is_cut_and_says_so(store: Store) -> None:
    crowd(store)
    read = ask(store, NAME)
    # 512 bytes, less 12 of header and 36 of question, hold 29 records of 16 bytes.
    assert len(texts(read.answer)) == 29
    assert read.flags & dns.flags.TC


def test_edns_makes_room_for_more(store: Store) -> None:
    crowd(store)
    read = ask(store, NAME, use_edns=0, payload=1232)
    # 1232 - 12 - 36 - 11 of the OPT record: 73 records of 16 bytes
    assert len(texts(read.answer)) == 73
    assert read.edns == 0
    read = ask(store, NAME, use_edns=0, payload=4096)
    assert len(texts(read.answer)) == 100
    assert not read.flags & dns.flags.TC


def test_over_tcp_there_is_room_for_all(store: Store) -> None:
    crowd(store)
    read = ask(store, NAME, over_tcp=True)
    assert len(texts(read.answer)) == 100
    assert not read.flags & dns.flags.TC


def test_additional_records_may_be_left_out_silently(store: Store) -> None:
    add_service(store)
    add_endpoints(store, *(endpoint(f"127.9.1.{number}") for number in range(1, 6)))
    read = ask(store, f"_grpc._tcp.{NAME}", "SRV")
    # 5 SRV records of 12 + 6 + 46 bytes fill 320 of the 453 that are left; of the addresses, of
    # 46 + 10 + 4 bytes, 2 fit.
    assert (len(texts(read.answer)), len(texts(read.additional))) == (5, 2)
    assert not read.flags & dns.flags.TC


def test_no_answer_by_udp_is_longer_than_was_told(store: Store) -> None:
    add_service(store)
    numbers = [(one, two) for one in range(1, 3) for two in range(1, 200)]
    add_endpoints(store, *(endpoint(f"127.9.{one}.{two}") for one, two in numbers))
    # 4096 bytes at most, whatever the client would take, and 512 at least, however few it names.
    read = ask(store, NAME, use_edns=0, payload=65000)
    assert len(texts(read.answer)) == (4096 - 12 - 36 - 11) // 16 == 252
    assert read.payload == 4096  # what may be sent here
    read = ask(store, NAME, use_edns=0, payload=20)
    assert len(texts(read.answer)) == (512 - 12 - 36 - 11) // 16
    assert len(texts(ask(store, NAME, over_tcp=True).answer)) == len(numbers)


def test_an_answer_that_just_fits_is_whole(store: Store) -> None:
    add_service(store)
    add_endpoints(store, *(endpoint(f"127.9.1.{number}") for number in range(1, 30)))
    # 28 bytes of an SOA do not come in: 512 - 12 - 36 are 29 records of 16 bytes, exactly.
    read = ask(store, NAME)
    assert len(texts(read.answer)) == 29
    assert not read.flags & dns.flags.TC


def test_edns_is_found_behind_another_additional_record(store: Store) -> None:
    crowd(store)
    asked = dns.message.make_query(NAME, "A", use_edns=0, payload=1232)
    query = bytearray(asked.to_wire())
    query[11] = 2
    before_option = len(query) - 11
    query[before_option:before_option] = b"\0\0\x01\0\x01\0\0\0\0\0\x04\x7f\0\0\x01"  # . A
    reply = answer(bytes(query), Zone(store), shuffle=lambda _: None)
    assert reply is not None
    assert len(texts(dns.message.from_wire(reply).answer)) == 73


def test_records_come_in_another_order_each_time(store: Store) -> None:
    crowd(store)
    query = dns.message.make_query(NAME, "A", use_edns=0, payload=4096).to_wire()
    orders = {answer(query, Zone(store)) for _ in range(20)}
    assert len(orders) == 20  # two of 100! are the same by no chance


def test_the_zone_tells_its_name_server_and_everything_it_has_of_a_name(store: Store) -> None:
    zone = "cluster.local."
    [server] = texts(ask(store, zone, "NS").answer)
    assert server == f"{zone} 30 IN NS ns.dns.{zone}"
    assert [line.split()[3] for line in texts(ask(store, zone, "ANY").answer)] == ["SOA", "NS"]


def test_names_of_another_class_are_refused(store: Store) -> None:
    add_service(store, clusterIP="127.9.128.1")
    read = ask(store, NAME, rdclass="CH")
    assert (read.rcode(), read.answer) == (dns.rcode.REFUSED, [])


def test_the_longest_label_is_no_format_error(store: Store) -> None:
    name = f"{'a' * 63}.test.svc.cluster.local."
    assert ask(store, name).rcode() == dns.rcode.NXDOMAIN
    add_service(store, "a" * 63, clusterIP="127.9.128.1")
    assert texts(ask(store, name).answer) == [f"{name} 30 IN A 127.9.128.1"]


def test_the_longest_name_is_no_format_error(store: Store) -> None:
    labels = ".".join(["a" * 63] * 3)
    name = f"{labels}.{'a' * (254 - len(labels) - len('..cluster.local.'))}.cluster.local."
    assert len(name) == 254  # 255 bytes, with the length of the first label
    assert ask(store, name).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("questions", [0, 2])
def test_a_query_has_one_question(store: Store, questions: int) -> None:
    query = bytearray(dns.message.make_query(NAME, "A").to_wire())
    query[5] = questions
    reply = answer(bytes(query), Zone(store))
    assert reply is not None
    assert reply[3] & 0xF == dns.rcode.FORMERR
    assert len(reply) == 12


def test_endpoints_of_other_services_and_those_that_are_not_ready_are_passed_over(
    store: Store,
) -> None:
    add_service(store)
    add_endpoints(store, endpoint("127.9.1.9"), service="aaa")
    add_endpoints(store, endpoint("127.9.1.1", ready=False), endpoint("127.9.1.2"))
    add_endpoints(store, endpoint("127.9.1.8"), service="zzz")
    add_endpoints(store, endpoint("127.9.1.3"))
    assert sorted(texts(ask(store, NAME).answer)) == [
        f"{NAME} 30 IN A 127.9.1.2",
        f"{NAME} 30 IN A 127.9.1.3",
    ]


def test_srv_records_of_many_have_a_weight_of_at_least_one(store: Store) -> None:
    add_service(store)
    numbers = [(one, two) for one in (1, 2) for two in range(1, 76)]
    add_endpoints(store, *(endpoint(f"127.9.{one}.{two}") for one, two in numbers))
    read = ask(store, f"_grpc._tcp.{NAME}", "SRV", over_tcp=True)
    assert {line.split()[5] for line in texts(read.answer)} == {"1"}


def test_an_edns_version_from_the_future_is_refused(store: Store) -> None:
    query = bytearray(dns.message.make_query(NAME, "A", use_edns=0).to_wire())
    query[-5] = 1  # before the flags and the length, which end the OPT record
    reply = answer(bytes(query), Zone(store))
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.BADVERS


def test_what_is_no_query_is_not_implemented(store: Store) -> None:
    asked = dns.message.make_query(NAME, "A")
    asked.set_opcode(dns.opcode.NOTIFY)
    reply = answer(asked.to_wire(), Zone(store))
    assert reply is not None
    assert reply[3] & 0xF == dns.rcode.NOTIMP


def test_an_answer_is_not_answered(store: Store) -> None:
    asked = dns.message.make_query(NAME, "A")
    asked.flags |= dns.flags.QR
    assert answer(asked.to_wire(), Zone(store)) is None


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"\x07greeter",  # ends within the name
        b"\xc0\x0c\0\1\0\1",  # points at itself
        b"\x40" + b"a" * 64 + b"\0\0\1\0\1",  # a label too long
        b"".join(b"\x3f" + b"a" * 63 for _ in range(5)) + b"\0\0\1\0\1",  # a name too long
        b"\0\0\1",  # half a question
    ],
)
def test_a_garbled_query_is_a_format_error(store: Store, tail: bytes) -> None:
    reply = answer(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + tail, Zone(store))
    assert reply == b"\x12\x34\x81\x01\0\0\0\0\0\0\0\0"


@given(st.binary(max_size=600), st.booleans())
def test_no_bytes_make_it_fail(query: bytes, over_tcp: bool) -> None:
    reply = answer(query, Zone(Store()), over_tcp=over_tcp)
    assert reply is None or reply[:2] == query[:2]


@given(
    st.binary(min_size=2, max_size=2),
    st.lists(st.text("abcxyz0189-_", min_size=1, max_size=20)),
    st.sampled_from(["A", "AAAA", "SRV", "TXT", "ANY", "SOA", "NS"]),
)
def test_every_question_about_the_zone_gets_an_answer_that_can_be_read(
    identity: bytes, labels: list[str], kind: str
) -> None:
    store = Store()
    store.create("namespaces", {"metadata": {"name": "test"}})
    add_service(store)
    add_endpoints(store, endpoint("127.9.1.1"))
    own = [label.encode() for label in labels[:5]]
    name = b"".join(bytes([len(label)]) + label for label in own)
    kind_number = int(dns.rdatatype.from_text(kind)).to_bytes(2)
    zone = b"\x07cluster\x05local\0"
    query = identity + b"\1\0\0\1\0\0\0\0\0\0" + name + zone + kind_number + b"\0\1"
    reply = answer(query, Zone(store))
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
