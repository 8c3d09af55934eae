"""The profiles of Hypothesis that the package registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PRINTS = """
import pytest
from hypothesis import settings

def test_it(capsys):
    from pytest_grpclb import stateful

    ran = []
    stateful.run_state_machine_as_test = lambda _, *, settings: ran.append(settings)
    stateful.load_balancing_machine(None).run()
    stateful.load_balancing_machine(None).run(settings(max_examples=3))
    print("examples", *(each.max_examples for each in ran))
"""


def ran(pytester: pytest.Pytester, *arguments: str) -> str:
    pytester.makepyfile(test_it=PRINTS)
    result = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider", *arguments)
    result.assert_outcomes(passed=1)
    return result.stdout.str()


def test_a_machine_runs_with_the_embedded_profile_unless_the_one_for_kind_is_loaded(
    pytester: pytest.Pytester,
) -> None:
    assert "examples 25 3\n" in ran(pytester)
    assert "examples 25 3\n" in ran(pytester, "--hypothesis-profile=grpclb-embedded")
    assert "examples 5 3\n" in ran(pytester, "--hypothesis-profile=grpclb-kind")


def test_the_profiles_of_others_are_their_own(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--hypothesis-profile=grpclb-none", "--collect-only")
    assert "'grpclb-none'" in result.stderr.str() + result.stdout.str()
