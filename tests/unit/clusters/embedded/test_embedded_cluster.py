"""The test process's side: what it says when a cluster cannot be had."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.embedded.network.network import claim_block
from pytest_grpclb.errors import ClusterStartError, ClusterUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

# None that clusters take by default; one for each test, so that they may run at the same time.
HELD_BLOCK, SLOW_BLOCK = 248, 249


def test_it_needs_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ClusterUnavailableError) as caught:
        EmbeddedCluster(tmp_path).start()
    assert str(caught.value) == (
        "cluster provider 'embedded' cannot be used here: it needs Linux, this is 'darwin'; "
        "use --grpclb-cluster=kind"
    )


def test_it_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str) -> object:
        return None if name in {"h11", "trustme"} else find_spec(name)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ClusterUnavailableError) as caught:
        EmbeddedCluster(tmp_path).start()
    assert str(caught.value) == (
        "cluster provider 'embedded' cannot be used here: modules are missing: h11, trustme; "
        "install them with: pip install 'pytest-grpclb[embedded]'"
    )


def test_it_has_to_be_started(tmp_path: Path) -> None:
    with pytest.raises(ClusterStartError) as caught:
        EmbeddedCluster(tmp_path).wait()
    assert str(caught.value) == (
        "cluster provider 'embedded' did not start: it was not started; call start() first"
    )


def test_no_block_is_free(tmp_path: Path) -> None:
    claim = claim_block([HELD_BLOCK])
    cluster = EmbeddedCluster(tmp_path, blocks=[HELD_BLOCK])
    try:
        cluster.start()
        with pytest.raises(ClusterStartError) as caught:
            cluster.wait()
    finally:
        cluster.close()
        claim.release()
    assert str(caught.value) == (
        "cluster provider 'embedded' did not start: no free loopback block: all 1 of the "
        "127.x.0.0/16 blocks are held by other embedded clusters of this machine; wait for those "
        "runs to end"
    )


def test_it_is_not_ready_in_time(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path, blocks=[SLOW_BLOCK])
    try:
        cluster.start()
        with pytest.raises(ClusterStartError) as caught:
            cluster.wait(timeout_s=0.001)
    finally:
        cluster.close()
    told = "cluster provider 'embedded' did not start: it was not ready after 0.001 s"
    assert str(caught.value).startswith(told)


def test_it_ends_early_and_its_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    cluster = EmbeddedCluster(tmp_path / "cluster")
    try:
        cluster.start()
        with pytest.raises(ClusterStartError) as caught:
            cluster.wait()
    finally:
        cluster.close()
    assert str(caught.value) == (
        "cluster provider 'embedded' did not start: it ended early with exit code 3\n"
        "its last log lines:\nno such module"
    )


def test_closing_twice_or_without_a_start_is_no_error(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path)
    cluster.close()
    cluster.close()


def test_pods_are_reached_directly(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path).reach("test", "pod", "127.9.1.1", 50052) as target:
        assert target == "127.9.1.1:50052"
