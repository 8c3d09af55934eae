"""Pods that a test makes unready, on a real (embedded) cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

GATED = """
import pytest

@pytest.mark.grpclb(replicas=2, readiness_gate=True)
def test_gate(grpclb):
    first, second = grpclb.backends()
    assert grpclb.make_unready(second.name) == second
    assert grpclb.backends() == (first,)
    assert grpclb.unready() == (second.name,)
    with pytest.raises(ValueError, match=f"^no ready pod is called {second.name!r}; ready are: "):
        grpclb.make_unready(second.name)
    grpclb.kill(first.name)  # waits for the new pod alone
    assert grpclb.unready() == (second.name,)
    grpclb.scale(3)
    assert len(grpclb.backends()) == 2
    with pytest.raises(ValueError, match="^no pod 'x' was made unready; those that were: "):
        grpclb.make_ready("x")
    grpclb.make_ready(second.name)
    assert len(grpclb.backends()) == 3
    grpclb.make_unready()
    grpclb.restart()
    assert (len(grpclb.backends()), grpclb.unready()) == (3, ())

@pytest.mark.grpclb(replicas=1)
def test_no_gate(grpclb):
    with pytest.raises(ValueError) as raised:
        grpclb.make_unready()
    assert str(raised.value) == (
        "the pods have no readiness gate; mark the test @pytest.mark.grpclb(readiness_gate=True)"
    )
"""


def test_a_test_decides_which_pods_are_ready(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GATED)
    result = pytester.runpytest_subprocess("-p", "no:xdist", "--grpclb-ready-timeout=20")
    result.assert_outcomes(passed=2)
