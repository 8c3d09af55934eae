"""Loopback blocks: claimed once, given back by the kernel; addresses are not used again soon."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from pytest_grpclb.clusters.embedded.network.network import (
    AddressPool,
    Block,
    claim_block,
    listen,
)
from pytest_grpclb.errors import NoFreeBlockError

# Clear of what running clusters claim, and of one another, so that tests may run side by side.
FIRST, SECOND, KILLED = 250, 251, 247


def test_a_block_is_claimed_once() -> None:
    first = claim_block([FIRST, SECOND])
    second = claim_block([FIRST, SECOND])
    assert (first.block.number, second.block.number) == (FIRST, SECOND)
    with pytest.raises(NoFreeBlockError) as caught:
        claim_block([FIRST, SECOND])
    assert str(caught.value) == (
        "no free loopback block: all 2 of the 127.x.0.0/16 blocks are held by other "
        "embedded clusters of this machine; wait for those runs to end"
    )
    first.release()
    third = claim_block([FIRST, SECOND])
    assert third.block.number == FIRST
    second.release()
    third.release()


def test_a_block_is_free_when_its_holder_was_killed() -> None:
    hold = (
        "from pytest_grpclb.clusters.embedded.network.network import claim_block; import sys\n"
        f"claim = claim_block([{KILLED}]); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(NoFreeBlockError):
            claim_block([KILLED])
        holder.kill()
        holder.wait()
    claim_block([KILLED]).release()


def test_a_block_has_its_addresses_apart() -> None:
    block = Block(40)
    assert (block.api, block.node, block.dns) == ("127.40.0.1", "127.40.0.2", "127.40.0.10")
    assert str(block.pods()) == "127.40.1.1 to 127.40.127.254"
    assert str(block.services()) == "127.40.128.1 to 127.40.255.254"


def test_an_address_comes_back_after_all_others() -> None:
    pool = AddressPool("127.9.1.1", "127.9.1.3")
    first = pool.take()
    assert first == "127.9.1.1"
    pool.release(first)
    assert [pool.take(), pool.take(), pool.take()] == ["127.9.1.2", "127.9.1.3", "127.9.1.1"]
    with pytest.raises(LookupError) as caught:
        pool.take()
    assert str(caught.value) == (
        "all 3 addresses 127.9.1.1 to 127.9.1.3 are held; delete what holds them"
    )


def test_an_address_that_is_held_is_not_given() -> None:
    pool = AddressPool("127.9.1.1", "127.9.1.2")
    pool.hold("127.9.1.1")
    assert not pool.is_free("127.9.1.1")
    assert pool.take() == "127.9.1.2"


@pytest.mark.parametrize(
    ("address", "inside"), [("127.9.1.2", True), ("127.9.1.9", False), ("None", False), ("", False)]
)
def test_a_pool_knows_its_range(address: str, inside: bool) -> None:
    assert (address in AddressPool("127.9.1.1", "127.9.1.3")) is inside


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        stream, datagrams = listen("127.0.0.1", taken, purpose="DNS", datagrams=True)
        with stream, datagrams:
            assert stream.getsockname()[1] != taken
            assert datagrams.getsockname() == stream.getsockname()
