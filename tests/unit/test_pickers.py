"""Who picks, and who sends calls at the same time as who else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_grpclb.pickers import ClientPicks, Company, IngressPicks


def test_an_ingress_controller_picks_though_it_does_not_tell_its_workers() -> None:
    ingress: Any = SimpleNamespace(cluster=SimpleNamespace(ingress_workers=None))
    picks = IngressPicks(ingress)
    assert picks.pickers() is None
    assert picks.proxied
    assert not ClientPicks().proxied


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
