"""Logs: which of a container's lives, which part, and following."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.api.streams import LogOptions
from pytest_grpclb.clusters.embedded.node.log_files import LogFiles
from pytest_grpclb.clusters.embedded.store.status import BadRequestError
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

RUNNING: dict[str, Any] = {"running": {}}


class Fixture:
    def __init__(self, pods: Path) -> None:
        self.store = Store()
        made = self.store.create(
            "pods", {"metadata": {"name": "p", "namespace": "test"}, "spec": {"containers": []}}
        )
        self.directory = pods / made["metadata"]["uid"] / "logs" / "main"
        self.directory.mkdir(parents=True)
        self.files = LogFiles(self.store, pods)
        self.be(0, RUNNING)

    def be(self, restarts: int, state: dict[str, Any]) -> None:
        pod = self.store.get("pods", "p", "test")
        entry = {"name": "main", "restartCount": restarts, "state": state}
        self.store.update_status("pods", {**pod, "status": {"containerStatuses": [entry]}})

    def write(self, run: int, text: str) -> None:
        with (self.directory / f"{run}.log").open("a") as log:
            log.write(text)

    def read(self, **options: Any) -> str:
        async def collect() -> bytes:
            return b"".join([piece async for piece in self.pieces(**options)])

        return asyncio.run(collect()).decode()

    def pieces(self, **options: Any) -> Any:
        pod = self.store.get("pods", "p", "test")
        return self.files.read(pod, LogOptions(container="main", **options))


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (None, "one\ntwo\nthree\n"),
        (2, "two\nthree\n"),
        (3, "one\ntwo\nthree\n"),
        (9, "one\ntwo\nthree\n"),
        (0, ""),
    ],
)
def test_the_last_lines(fixture: Fixture, lines: int | None, expected: str) -> None:
    fixture.write(0, "one\ntwo\nthree\n")
    assert fixture.read(tail_lines=lines) == expected


def test_a_last_line_that_is_not_finished_counts(fixture: Fixture) -> None:
    fixture.write(0, "one\ntwo\nthr")
    assert fixture.read(tail_lines=2) == "two\nthr"


def test_last_lines_are_found_in_a_long_log(fixture: Fixture) -> None:
    lines = [f"{number:06} {'x' * 100}\n" for number in range(3000)]  # 324 kB, in 5 blocks
    fixture.write(0, "".join(lines))
    assert fixture.read(tail_lines=1500) == "".join(lines[1500:])
    assert fixture.read(tail_lines=1) == lines[-1]


def test_bytes_are_limited(fixture: Fixture) -> None:
    fixture.write(0, "one\ntwo\n")
    assert fixture.read(limit_bytes=5) == "one\nt"


def test_each_life_of_a_container_has_a_log_of_its_own(fixture: Fixture) -> None:
    fixture.write(0, "first")
    fixture.write(1, "second")
    fixture.be(1, RUNNING)
    assert fixture.read() == "second"
    assert fixture.read(previous=True) == "first"


def test_a_container_that_waits_shows_its_last_life(fixture: Fixture) -> None:
    fixture.write(0, "first")
    fixture.be(1, {"waiting": {"reason": "CrashLoopBackOff"}})
    assert fixture.read() == "first"
    assert fixture.read(previous=True) == "first"


def test_nothing_was_written_yet(fixture: Fixture) -> None:
    assert fixture.read() == ""


def test_following_ends_with_the_container(fixture: Fixture) -> None:
    fixture.write(0, "one\n")

    async def follow() -> list[bytes]:
        pieces = []
        async for piece in fixture.pieces(follow=True):
            pieces.append(piece)
            if piece == b"one\n":
                fixture.write(0, "two\n")
            else:
                fixture.be(0, {"terminated": {"exitCode": 0}})
        return pieces

    assert asyncio.run(follow()) == [b"one\n", b"two\n"]


@pytest.mark.parametrize("options", [{"timestamps": True}, {"since_s": 1.0}])
def test_times_of_lines_are_not_known(fixture: Fixture, options: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as caught:
        fixture.read(**options)
    assert str(caught.value) == (
        "the embedded cluster does not know when a line was written: leave out timestamps and "
        "since, or use --grpclb-cluster=kind"
    )
