"""The queue between changes in the store and the controllers that they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_grpclb.clusters.embedded.store.status import StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event

__all__ = ["Controller", "Key", "Manager"]

RETRY_S = 1.0


class Key(NamedTuple):
    """What a controller is asked to bring up to date."""

    namespace: str
    name: str


class Controller(Protocol):
    """One control loop."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of object, by the store's names, whose changes concern it."""

    def concerned(self, event: Event) -> Iterable[Key]:
        """Name what has to be looked at after a change."""

    def sync(self, key: Key) -> float | None:
        """Bring one object up to date; return after how many seconds to look again, if at all."""


class Manager:
    """Runs controllers over a store, each key at most once for any number of changes before.

    :param soon: calls a function after the current one has returned
    :param later: calls a function after so many seconds
    :param report: told of an exception that a controller should not have raised
    """

    def __init__(
        self,
        store: Store,
        controllers: Sequence[Controller],
        *,
        soon: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        report: Callable[[Controller, Key, Exception], None],
    ) -> None:
        self._soon, self._later, self._report = soon, later, report
        self._due: dict[tuple[Controller, Key], None] = {}
        self._woken = False
        for controller in controllers:
            store.subscribe(controller.kinds, self._observer(controller))

    def add(self, controller: Controller, key: Key) -> None:
        """Have a controller look at *key* before long."""
        self._due[controller, key] = None
        if not self._woken:
            self._woken = True
            self._soon(self.settle)

    def settle(self) -> None:
        """Work until nothing is due."""
        while self._due:
            controller, key = entry = next(iter(self._due))
            del self._due[entry]
            try:
                again_s = controller.sync(key)
            except StatusError:
                again_s = RETRY_S
            except Exception as error:  # noqa: BLE001 - one's bug must not stop others
                self._report(controller, key, error)
                again_s = None
            if again_s is not None:
                self._later(again_s, lambda entry=entry: self.add(*entry))  # type: ignore[misc]
        self._woken = False

    def _observer(self, controller: Controller) -> Callable[[Event], None]:
        def observe(event: Event) -> None:
            for key in controller.concerned(event):
                self.add(controller, key)

        return observe
