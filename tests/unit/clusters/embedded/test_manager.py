"""The controllers' queue: each key once, errors contained, later tries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.controllers import Key, Manager
from pytest_grpclb.clusters.embedded.store.status import ConflictError
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_grpclb.clusters.embedded.store.watch import Event


class Recording:
    """A controller of config maps that does what a test tells it."""

    kinds = ("configmaps",)

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.does: Callable[[], float | None] = lambda: None

    def concerned(self, event: Event) -> Iterable[Key]:
        metadata = event.object["metadata"]
        return [Key(metadata["namespace"], metadata["name"])]

    def sync(self, key: Key) -> float | None:
        self.synced.append(key.name)
        return self.does()


class Fixture:
    def __init__(self) -> None:
        self.store = Store()
        self.soon: list[Any] = []
        self.later: list[tuple[float, Any]] = []
        self.reported: list[str] = []
        self.controllers = [Recording(), Recording()]
        Manager(
            self.store,
            self.controllers,
            soon=self.soon.append,
            later=lambda delay_s, work: self.later.append((delay_s, work)),
            report=lambda _controller, key, error: self.reported.append(f"{key.name}: {error}"),
        )

    def create(self, name: str) -> None:
        self.store.create("configmaps", {"metadata": {"name": name, "namespace": "test"}})

    def change(self, name: str, value: str) -> None:
        found = self.store.get("configmaps", name, "test")
        self.store.update("configmaps", {**found, "data": {"a": value}})

    def settle(self) -> None:
        while self.soon:
            self.soon.pop(0)()


def raising(error: Exception) -> Callable[[], float | None]:
    def do() -> float | None:
        raise error

    return do


def test_many_changes_of_one_object_are_one_piece_of_work() -> None:
    fixture = Fixture()
    fixture.create("a")
    fixture.create("b")
    fixture.change("a", "1")
    fixture.change("a", "2")
    assert len(fixture.soon) == 1
    fixture.settle()
    assert fixture.controllers[0].synced == ["a", "b"]
    fixture.change("b", "1")
    fixture.settle()
    assert fixture.controllers[0].synced == ["a", "b", "b"]


def test_work_that_asks_for_it_comes_back_later() -> None:
    fixture = Fixture()
    first = fixture.controllers[0]
    first.does = lambda: 7.0
    fixture.create("a")
    fixture.settle()
    [(delay_s, work)] = fixture.later
    assert delay_s == 7.0
    first.does = lambda: None
    work()
    fixture.settle()
    assert first.synced == ["a", "a"]


def test_a_conflict_is_tried_again_after_a_second() -> None:
    fixture = Fixture()
    fixture.controllers[0].does = raising(ConflictError("changed"))
    fixture.create("a")
    fixture.settle()
    assert [delay_s for delay_s, _ in fixture.later] == [1.0]
    assert fixture.reported == []


def test_a_bug_in_one_controller_is_reported_and_spares_the_others() -> None:
    fixture = Fixture()
    fixture.controllers[0].does = raising(ZeroDivisionError("oops"))
    fixture.create("a")
    fixture.settle()
    assert fixture.reported == ["a: oops"]
    assert fixture.later == []
    assert fixture.controllers[1].synced == ["a"]
