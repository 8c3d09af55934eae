from __future__ import annotations

import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.kind.sharing import Share, shared_directory
from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Ledger:
    """Counts what is made and ended."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def make(self, claim: Callable[[], None]) -> None:
        claim()
        self.events.append("made")

    def end(self) -> None:
        self.events.append("ended")


def leave(share: Share, ledger: Ledger, *, keep: bool = False) -> bool:
    return share.leave(ledger.end, keep=keep)


def test_the_first_makes_it_and_the_last_ends_it(tmp_path: Path) -> None:
    ledger, shares = Ledger(), [Share(tmp_path, "it") for _ in range(3)]
    for share in shares:
        share.join(ledger.make)
    assert [leave(share, ledger) for share in shares[:2]] == [False, False]
    assert ledger.events == ["made"]
    assert leave(shares[2], ledger) is False
    assert ledger.events == ["made", "ended"]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_others_wait_until_it_is_made(tmp_path: Path) -> None:
    ledger, making, may_end = Ledger(), threading.Event(), threading.Event()

    def slowly(claim: Callable[[], None]) -> None:
        making.set()
        assert may_end.wait(10)
        ledger.make(claim)

    first, second = Share(tmp_path, "it"), Share(tmp_path, "it")
    threads = [
        threading.Thread(target=first.join, args=(slowly,)),
        threading.Thread(target=second.join, args=(ledger.make,)),
    ]
    threads[0].start()
    assert making.wait(10)
    threads[1].start()
    assert ledger.events == []
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert ledger.events == ["made"]
    leave(first, ledger)
    leave(second, ledger)


def test_what_was_there_already_is_not_ended(tmp_path: Path) -> None:
    ledger, share = Ledger(), Share(tmp_path, "it")
    share.join(lambda _claim: None)
    assert leave(share, ledger) is False
    assert ledger.events == []


def test_it_stays_if_anybody_wants_it_kept(tmp_path: Path) -> None:
    ledger = Ledger()
    first, last = Share(tmp_path, "it"), Share(tmp_path, "it")
    first.join(ledger.make)
    last.join(ledger.make)
    assert leave(first, ledger, keep=True) is False
    assert leave(last, ledger) is True
    assert ledger.events == ["made"]


def test_one_that_could_not_be_made_is_tried_again(tmp_path: Path) -> None:
    def fail(_claim: Callable[[], None]) -> None:
        raise RuntimeError("no room")

    ledger, first, second = Ledger(), Share(tmp_path, "it"), Share(tmp_path, "it")
    with pytest.raises(RuntimeError, match="no room"):
        first.join(fail)
    second.join(ledger.make)
    assert ledger.events == ["made"]
    leave(first, ledger)
    leave(second, ledger)
    assert ledger.events == ["made", "ended"]


def test_one_that_was_begun_and_failed_is_ended_whoever_finishes_it(tmp_path: Path) -> None:
    def half(claim: Callable[[], None]) -> None:
        claim()
        raise RuntimeError("no room")

    ledger, first, second = Ledger(), Share(tmp_path, "it"), Share(tmp_path, "it")
    with pytest.raises(RuntimeError, match="no room"):
        first.join(half)
    assert second.join(lambda _claim: None)  # finds it there
    leave(first, ledger)
    leave(second, ledger)
    assert ledger.events == ["ended"]


def test_what_was_there_already_is_not_ended_either_where_it_cannot_be_used(tmp_path: Path) -> None:
    def fail(_claim: Callable[[], None]) -> None:
        raise RuntimeError("no way in")

    ledger, share = Ledger(), Share(tmp_path, "it")
    with pytest.raises(RuntimeError, match="no way in"):
        share.join(fail)
    assert leave(share, ledger) is False
    assert ledger.events == []


def test_what_was_there_already_is_not_ended_after_a_run_that_died_at_its_door(
    tmp_path: Path,
) -> None:
    def die(_claim: Callable[[], None]) -> None:
        raise SystemExit

    share = Share(tmp_path, "theirs")
    with pytest.raises(SystemExit):
        share.join(die)
    assert share._users is not None
    share._users.close()  # as the kernel does when a process is killed
    ended: list[str] = []
    Share.end_abandoned(tmp_path, ended.append)
    assert ended == []


def test_what_nobody_uses_any_more_is_abandoned(tmp_path: Path) -> None:
    ledger = Ledger()
    shares = {name: Share(tmp_path, name) for name in ("dead", "alive", "theirs")}
    for name, share in shares.items():
        share.join(lambda claim, name=name: None if name == "theirs" else claim())  # type: ignore[misc]
    for name in ("dead", "theirs"):
        users = shares[name]._users
        assert users is not None
        users.close()  # as the kernel does when a process is killed
    ended: list[str] = []
    Share.end_abandoned(tmp_path, ended.append)
    assert ended == ["dead"]
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "alive.json", "alive.users"}
    leave(shares["alive"], ledger)


def test_leaving_twice_or_without_joining_is_no_error(tmp_path: Path) -> None:
    ledger, share = Ledger(), Share(tmp_path, "it")
    assert leave(share, ledger) is False
    share.join(ledger.make)
    leave(share, ledger)
    leave(share, ledger)
    assert ledger.events == ["made", "ended"]


def test_the_folder_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = shared_directory("kind")
    assert shared_directory("kind") == folder
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.rmdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(GrpclbError, match="delete it, or set TMPDIR to a folder of your own"):
        shared_directory("kind")
