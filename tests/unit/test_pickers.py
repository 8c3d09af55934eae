"""Who picks, what that tells of itself, and who sends calls at the same time as who else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_grpclb.driver.told import ClientView
from pytest_grpclb.pickers import ClientPicks, Company, IngressPicks, SidecarPicks

from .made_traffic import pods

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pytest_grpclb.ingress import Ingress
    from pytest_grpclb.sidecar import Sidecar

VIEW = ClientView(picker_rebuilds=7)


def test_whoever_comes_while_others_are_there_is_not_alone_and_nor_are_they() -> None:
    company = Company()
    first = company.enter()
    assert first.alone
    second = company.enter()
    assert not first.alone
    assert not second.alone


def test_whoever_comes_after_the_others_have_left_is_alone() -> None:
    company = Company()
    gone, over = company.enter(), company.enter()
    gone.leave()
    over.is_over = lambda: True
    assert company.enter().alone


def test_a_disturbance_is_company_for_those_who_are_there() -> None:
    company = Company()
    before, there = company.enter(), None
    before.leave()
    there = company.enter()
    company.disturb()
    assert before.alone
    assert not there.alone
    there.leave()
    assert company.enter().alone


# --- who picks


def test_a_client_that_picks_tells_of_its_rebuilds_itself() -> None:
    assert not ClientPicks().proxied
    picker = ClientPicks()
    picker.settle(lambda: pods(2))
    assert picker.pickers() is None
    assert picker.rebuilds(VIEW, ended=False) == picker.rebuilds(VIEW, ended=True) == 7
    assert picker.files() == {}


class ScriptedSidecar:
    """An Envoy that tells numbers of a script, one after the other."""

    def __init__(self, *, shifts: Collection[int | None], workers: int | None = 2) -> None:
        self.shifts = iter(shifts).__next__
        self.workers = iter((workers,)).__next__  # asked once: it is what it was started with
        self.did: list[Any] = []

    def wait_hosts(self, wanted: Collection[str], timeout_s: float) -> None:
        self.did.append((set(wanted), timeout_s))

    def wait_logged(self, timeout_s: float) -> None:
        self.did.append(timeout_s)

    def files(self) -> dict[str, str]:
        return {"envoy-stats.txt": f"after {len(self.did)}"}


def sidecar_picks(sidecar: ScriptedSidecar, **more: float) -> SidecarPicks:
    return SidecarPicks(cast("Sidecar", sidecar), port=50051, **more)


def test_a_sidecar_is_waited_for_until_its_hosts_are_the_pods_that_are_ready() -> None:
    sidecar = ScriptedSidecar(shifts=[0])
    sidecar_picks(sidecar, dns_cache_s=30.0).settle(lambda: pods(2))
    assert sidecar.did == [({"10.0.0.1:50051", "10.0.0.2:50051"}, 35.0)]
    sidecar_picks(sidecar := ScriptedSidecar(shifts=[0])).settle(lambda: ())
    assert sidecar.did == [(set(), 5.0)]


def test_a_sidecar_picks_by_its_workers() -> None:
    picker = sidecar_picks(ScriptedSidecar(shifts=[]))
    assert picker.pickers() == picker.pickers() == 2


def test_shifts_of_a_sidecar_count_from_the_beginning_of_a_run_to_its_end() -> None:
    picker = sidecar_picks(ScriptedSidecar(shifts=[4, 4, 9]))
    picker.settle(lambda: ())
    assert picker.rebuilds(VIEW, ended=True) == 0
    assert picker.rebuilds(VIEW, ended=False) is None  # in the middle it is no sum yet
    assert picker.rebuilds(VIEW, ended=True) == 5


@pytest.mark.parametrize("shifts", [(None, 3), (3, None), (None, None)])
def test_shifts_that_a_sidecar_does_not_tell_are_unknown(shifts: tuple[int | None, ...]) -> None:
    picker = sidecar_picks(ScriptedSidecar(shifts=shifts))
    picker.settle(lambda: ())
    assert picker.rebuilds(VIEW, ended=True) is None


def test_files_of_a_sidecar_are_read_when_its_log_is_whole() -> None:
    assert sidecar_picks(ScriptedSidecar(shifts=[])).files() == {"envoy-stats.txt": "after 1"}


class ScriptedIngress:
    """An ingress whose proxy tells numbers of a script, one after the other."""

    def __init__(self, *, rebuilds: Collection[int], workers: int | None = 1) -> None:
        self.cluster = SimpleNamespace(
            ingress_workers=workers, ingress_push_s=2.0, ingress_files=lambda: {"c": "conf"}
        )
        self.picker_rebuilds = iter(rebuilds).__next__
        self.did: list[Any] = []

    def check(self) -> None:
        self.did.append("check")

    def wait_following(
        self, ready: Callable[[], frozenset[str]], timeout_s: float, *, identify: Any
    ) -> None:
        self.did.append((ready(), timeout_s, identify("10.0.0.1")))

    def describe(self) -> str:
        return "as it is"


def ingress_picks(ingress: ScriptedIngress) -> IngressPicks:
    return IngressPicks(cast("Ingress", ingress), identify=lambda name: f"uid of {name}")


def test_an_ingress_is_checked_and_then_waited_for_until_it_follows_the_pods() -> None:
    ingress = ScriptedIngress(rebuilds=[0])
    ingress_picks(ingress).settle(lambda: pods(2))
    assert ingress.did == ["check", (frozenset("ab"), 6.0, "uid of 10.0.0.1")]


def test_rebuilds_of_an_ingress_count_from_the_beginning_of_a_run_to_its_end() -> None:
    picker = ingress_picks(ScriptedIngress(rebuilds=[4, 4, 9]))
    assert picker.pickers() == 1
    picker.settle(lambda: ())
    assert picker.rebuilds(VIEW, ended=True) == 0
    assert picker.rebuilds(VIEW, ended=False) is None
    assert picker.rebuilds(VIEW, ended=True) == 5


def test_an_ingress_whose_workers_are_not_told_may_have_been_rebuilt_at_any_time() -> None:
    picker = ingress_picks(ScriptedIngress(rebuilds=[4, 4], workers=None))
    assert picker.pickers() is None
    assert picker.proxied
    picker.settle(lambda: ())
    assert picker.rebuilds(VIEW, ended=True) is None


def test_files_of_an_ingress_are_its_own_and_its_proxy_s() -> None:
    picker = ingress_picks(ScriptedIngress(rebuilds=[]))
    assert picker.files() == {"ingress.txt": "as it is", "c": "conf"}
