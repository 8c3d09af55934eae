"""Websockets as port-forwards use them: examples of RFC 6455, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.api.forwarding import ForwardResponse, Frames, forward, frame
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, StatusError

POD = {"metadata": {"name": "a"}, "status": {"phase": "Running", "podIP": "127.9.1.1"}}
HEADERS = {
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol": "v5.channel.k8s.io, v4.channel.k8s.io",
}
MASKED_HELLO = bytes.fromhex("818537fa213d7f9f4d5158")
""":source: RFC 6455, section 5.7"""


def masked(kind: int, payload: bytes, *, final: bool = True) -> bytes:
    head = bytes(((0x80 if final else 0) | kind, 0x80 | len(payload)))
    return head + b"\x00\x00\x00\x00" + payload


def test_the_servers_proof_is_the_one_of_the_rfc() -> None:
    accepted = forward(POD, "50051", HEADERS)
    # RFC 6455, section 1.3
    assert accepted == ForwardResponse(
        pod="a",
        address="127.9.1.1",
        ports=(50051,),
        accept="s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    )
    assert ("Sec-WebSocket-Protocol", "v4.channel.k8s.io") in accepted.headers


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"upgrade": "SPDY/3.1"},
            "unable to upgrade: the embedded cluster forwards ports by a websocket with the "
            "subprotocol v4.channel.k8s.io only; got Upgrade 'SPDY/3.1', subprotocols ''",
        ),
        (
            HEADERS | {"sec-websocket-protocol": "SPDY/3.1+portforward.k8s.io"},
            "unable to upgrade: the embedded cluster forwards ports by a websocket with the "
            "subprotocol v4.channel.k8s.io only; got Upgrade 'websocket', subprotocols "
            "'SPDY/3.1+portforward.k8s.io'",
        ),
    ],
)
def test_other_protocols_are_refused(headers: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        forward(POD, "50051", headers)
    assert str(caught.value) == message


@pytest.mark.parametrize("ports", ["", "x", "0", "65536", "1,"])
def test_ports_that_are_none_are_refused(ports: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        forward(POD, ports, HEADERS)
    assert str(caught.value) == f"ports={ports!r} in the query must be numbers from 1 to 65535"


def test_a_pod_that_does_not_run_is_refused() -> None:
    pending: dict[str, Any] = {"metadata": {"name": "a"}, "status": {"phase": "Pending"}}
    with pytest.raises(StatusError, match=r"not running\. Current status=Pending"):
        forward(pending, "50051", HEADERS)


def test_frames_are_read_as_the_rfc_has_them() -> None:
    assert list(Frames().feed(MASKED_HELLO)) == [(1, b"Hello")]
    frames = Frames()
    in_pieces = [found for byte in MASKED_HELLO for found in frames.feed(bytes((byte,)))]
    assert in_pieces == [(1, b"Hello")]


def test_a_message_in_pieces_is_put_together_around_a_ping() -> None:
    data = masked(2, b"Hel", final=False) + masked(9, b"?") + masked(0, b"lo")
    assert list(Frames().feed(data)) == [(9, b"?"), (2, b"Hello")]


@pytest.mark.parametrize("length", [125, 126, 65535, 65536])
def test_lengths_are_written_in_the_shortest_form(length: int) -> None:
    written = frame(2, b"x" * length)
    assert len(written) - length == (2 if length < 126 else 4 if length < 65536 else 10)
    # The same, masked with zeros, is read again.
    head = len(written) - length
    back = bytes((written[0], written[1] | 0x80)) + written[2:head] + bytes(4) + b"x" * length
    assert list(Frames().feed(back)) == [(2, b"x" * length)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(2, b"x"), "a frame of a client is not masked"),
        (masked(0, b"x"), "a frame continues a message that was not begun"),
        (
            b"\x82\xff" + (1 << 40).to_bytes(8),
            f"a frame has more than 16777216 bytes: {1 << 40}",
        ),
    ],
)
def test_what_is_no_websocket_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(Frames().feed(data))
