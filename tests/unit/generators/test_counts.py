"""Even and skewed counts, held against the verdicts that they are made for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.generators import Kill, SkewKind, even_counts, skewed_counts
from pytest_grpclb.model import Mechanism, Outcome, Verdict
from pytest_grpclb.statistics import calls_needed, calls_needed_round_robin, judge_spread

from .finding import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import DrawFn, SearchStrategy

ALPHA, POWER = 1e-6, 0.999


def judge(
    counts: Mapping[str, int],
    mechanism: Mechanism,
    *,
    alpha: float = ALPHA,
    skew: float = 1.5,
    pickers: int = 1,
) -> Verdict:
    return judge_spread(
        counts,
        backends=list(counts),
        mechanism=mechanism,
        alpha=alpha,
        power=POWER,
        skew=skew,
        pickers=pickers,
        picker_rebuilds=0,
    )


def simplest(generator: SearchStrategy[Any]) -> object:
    return find(generator, lambda _: True)


def values(counts: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(counts.values())


# --- even counts, round robin


@given(st.data(), st.integers(2, 12), st.integers(0, 5000), st.integers(1, 16))
def test_round_robin_counts_add_up_and_differ_by_no_more_than_the_pickers(
    data: st.DataObject, backends: int, calls: int, pickers: int
) -> None:
    counts = data.draw(even_counts(backends, calls, pickers=pickers))
    assert list(counts) == [f"uid-{number}" for number in range(1, backends + 1)]
    assert sum(counts.values()) == calls
    assert min(counts.values()) >= 0
    assert max(counts.values()) - min(counts.values()) <= pickers


@given(st.data(), st.integers(2, 8), st.integers(0, 500), st.integers(1, 4))
def test_the_verdict_on_enough_round_robin_counts_is_even(
    data: st.DataObject, backends: int, more: int, pickers: int
) -> None:
    needed = calls_needed_round_robin(backends, pickers=pickers, power=POWER, skew=1.5)
    counts = data.draw(even_counts(backends, needed + more, pickers=pickers))
    verdict = judge(counts, Mechanism.ROUND_ROBIN, pickers=pickers)
    assert verdict.outcome is Outcome.EVEN
    assert verdict.alpha == 0.0


@given(st.data(), st.integers(2, 8), st.integers(0, 2000), st.integers(1, 16))
def test_no_verdict_calls_round_robin_counts_skewed_however_few(
    data: st.DataObject, backends: int, calls: int, pickers: int
) -> None:
    counts = data.draw(even_counts(backends, calls, pickers=pickers))
    verdict = judge(counts, Mechanism.ROUND_ROBIN, pickers=pickers)
    assert verdict.outcome is not Outcome.SKEWED


@pytest.mark.parametrize(
    "wanted", [(3, 2, 2), (2, 3, 2), (2, 2, 3), (3, 3, 1), (3, 1, 3), (1, 3, 3)]
)
def test_every_spread_that_two_pickers_can_give_of_seven_calls_occurs(
    wanted: tuple[int, ...],
) -> None:
    counts = find(even_counts(3, 7, pickers=2), lambda counts: values(counts) == wanted)
    assert values(counts) == wanted


def test_one_picker_gives_no_other_spread_than_the_most_even_ones() -> None:
    seen = set()

    @given(even_counts(3, 7))
    def look(counts: dict[str, int]) -> None:
        seen.add(values(counts))

    look()
    assert seen == {(3, 2, 2), (2, 3, 2), (2, 2, 3)}


def test_few_calls_of_many_pickers_may_all_start_at_one_backend() -> None:
    counts = find(even_counts(3, 4, pickers=9), lambda counts: 4 in values(counts)[1:])
    assert sorted(values(counts)) == [0, 0, 4]


@pytest.mark.parametrize("calls", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("pickers", [1, 5])
def test_round_robin_counts_shrink_to_the_most_even_split(calls: int, pickers: int) -> None:
    by_hand = {0: (0, 0, 0), 1: (1, 0, 0), 2: (1, 1, 0), 7: (3, 2, 2), 100: (34, 33, 33)}
    assert simplest(even_counts(3, calls, pickers=pickers)) == dict(
        zip(("uid-1", "uid-2", "uid-3"), by_hand[calls], strict=True)
    )


# --- even counts, random


@given(st.data(), st.integers(2, 12), st.integers(0, 5000), st.sampled_from([1e-12, 1e-6, 0.01]))
def test_no_verdict_calls_random_counts_skewed(
    data: st.DataObject, backends: int, calls: int, alpha: float
) -> None:
    counts = data.draw(even_counts(backends, calls, mechanism=Mechanism.RANDOM, alpha=alpha))
    assert sum(counts.values()) == calls
    assert min(counts.values()) >= 0
    verdict = judge(counts, Mechanism.RANDOM, alpha=alpha)
    assert verdict.outcome is not Outcome.SKEWED


@given(st.data(), st.integers(2, 10), st.integers(0, 500))
def test_the_verdict_on_enough_random_counts_is_even(
    data: st.DataObject, backends: int, more: int
) -> None:
    calls = more + calls_needed(backends, alpha=ALPHA, power=POWER, skew=1.5)
    counts = data.draw(even_counts(backends, calls, mechanism=Mechanism.RANDOM))
    assert judge(counts, Mechanism.RANDOM).outcome is Outcome.EVEN


@pytest.mark.parametrize(("first", "second"), [(16, 4), (4, 16)])
def test_random_counts_reach_their_bounds(first: int, second: int) -> None:
    # Binomial(20, 1/2): 16 or more has probability 0.0059, 17 or more 0.0013. With alpha 0.02 over
    # two tails of two backends, 0.005 each, 16 is the last count allowed and 4 the first.
    generator = even_counts(2, 20, mechanism=Mechanism.RANDOM, alpha=0.02)
    counts = find(generator, lambda counts: counts["uid-1"] == first)
    assert counts == {"uid-1": first, "uid-2": second}
    assert judge({"uid-1": 17, "uid-2": 3}, Mechanism.RANDOM, alpha=0.02).outcome is Outcome.SKEWED


@given(even_counts(2, 20, mechanism=Mechanism.RANDOM, alpha=0.02))
def test_random_counts_do_not_pass_their_bounds(counts: dict[str, int]) -> None:
    assert set(counts.values()) <= set(range(4, 17))


@pytest.mark.parametrize("calls", [0, 1, 2, 7, 100])
def test_random_counts_shrink_to_the_most_even_split(calls: int) -> None:
    by_hand = {0: (0, 0, 0), 1: (1, 0, 0), 2: (1, 1, 0), 7: (3, 2, 2), 100: (34, 33, 33)}
    counts = simplest(even_counts(3, calls, mechanism=Mechanism.RANDOM))
    assert counts == dict(zip(("uid-1", "uid-2", "uid-3"), by_hand[calls], strict=True))


# --- skewed counts


@st.composite
def skewed_cases(
    draw: DrawFn, *, min_backends: int = 2, least_skew: float = 1.2, most_skew: float = 1.5
) -> tuple[int, float, int]:
    """Draw backends, skew, and calls that suffice for a verdict on one backend as hot as that."""
    backends = draw(st.integers(min_backends, 8))
    skew = draw(st.floats(least_skew, most_skew))
    needed = calls_needed(backends, alpha=ALPHA, power=POWER, skew=skew)
    return backends, skew, needed + draw(st.integers(0, 300))


@pytest.mark.parametrize("kind", SkewKind)
@pytest.mark.parametrize("mechanism", [Mechanism.ROUND_ROBIN, Mechanism.RANDOM])
@given(st.data(), skewed_cases())
def test_the_verdict_on_enough_skewed_counts_is_skewed(
    mechanism: Mechanism, kind: SkewKind, data: st.DataObject, case: tuple[int, float, int]
) -> None:
    backends, skew, calls = case
    counts = data.draw(skewed_counts(backends, calls, skew, kinds=[kind]))
    assert judge(counts, mechanism, skew=skew).outcome is Outcome.SKEWED


@given(st.data(), skewed_cases(most_skew=2.0))
def test_a_skewed_count_is_out_of_line_by_the_skew_and_the_rest_is_even(
    data: st.DataObject, case: tuple[int, float, int]
) -> None:
    backends, skew, calls = case
    kind = data.draw(st.sampled_from(SkewKind))
    counts = data.draw(skewed_counts(backends, calls, skew, kinds=[kind]))
    assert list(counts) == [f"uid-{number}" for number in range(1, backends + 1)]
    assert sum(counts.values()) == calls
    in_order = sorted(counts.values())
    odd, rest = (
        (in_order[-1], in_order[:-1])
        if kind in {SkewKind.HOT, SkewKind.ALL_ON_ONE}
        else (in_order[0], in_order[1:])
    )
    assert rest[-1] - rest[0] <= 1
    if kind is SkewKind.HOT:
        assert odd >= skew * calls / backends
    elif kind is SkewKind.COLD:
        assert 0 < odd <= calls / backends / skew
    else:
        assert odd == (0 if kind is SkewKind.DEAD else calls)


@pytest.mark.parametrize(
    ("kind", "mildest"),
    [
        (SkewKind.HOT, (300, 150, 150)),  # 1.5 times 200, the rest shared by two
        (SkewKind.COLD, (133, 234, 233)),  # 200 / 1.5 = 133.3
        (SkewKind.DEAD, (0, 300, 300)),
        (SkewKind.ALL_ON_ONE, (600, 0, 0)),
    ],
)
def test_each_kind_of_skew_shrinks_to_its_mildest(kind: SkewKind, mildest: tuple[int, ...]) -> None:
    counts = find(skewed_counts(3, 600, kinds=[kind]), lambda _: True)
    assert values(counts) == mildest


def test_skewed_counts_shrink_to_the_kind_given_first() -> None:
    assert values(find(skewed_counts(3, 600), lambda _: True)) == (300, 150, 150)
    reverse = skewed_counts(3, 600, kinds=[SkewKind.DEAD, SkewKind.HOT])
    assert values(find(reverse, lambda _: True)) == (0, 300, 300)


@pytest.mark.parametrize("odd", ["uid-1", "uid-2", "uid-3"])
def test_any_backend_may_be_the_odd_one_and_by_any_amount(odd: str) -> None:
    # Between the bound of 300 (or 133) and everything (or nothing); the mildest that fits is found.
    counts = find(
        skewed_counts(3, 600, kinds=[SkewKind.HOT]), lambda counts: 440 < counts[odd] < 450
    )
    assert counts[odd] == 441
    cold = find(skewed_counts(3, 600, kinds=[SkewKind.COLD]), lambda counts: 10 < counts[odd] < 20)
    assert cold[odd] == 19


@given(skewed_counts(3, 9, kinds=[SkewKind.COLD]))
def test_a_cold_backend_is_never_dead(counts: dict[str, int]) -> None:
    assert min(counts.values()) in {1, 2}  # 9 / 3 / 1.5 = 2


def test_a_backend_can_be_as_hot_as_to_get_every_call() -> None:
    counts = find(skewed_counts(3, 7, 3, kinds=[SkewKind.HOT]), lambda _: True)
    assert values(counts) == (7, 0, 0)


@pytest.mark.parametrize(("skew", "least"), [(7 / 3, 7), (1.5, 5), (1.1, 4)])
def test_a_backend_can_be_cold_as_soon_as_one_call_is_little_enough(
    skew: float, least: int
) -> None:
    counts = find(skewed_counts(3, least, skew, kinds=[SkewKind.COLD]), lambda _: True)
    assert values(counts)[0] == 1
    with pytest.raises(ValueError, match="too few for a backend that is cold"):
        skewed_counts(3, least - 1, skew, kinds=[SkewKind.COLD])


# --- arguments that cannot be used


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: even_counts(1, 9), "backends: 1 is not a whole number of at least 2"),
        (lambda: even_counts(3, -1), "calls: -1 is not a whole number of at least 0"),
        (
            lambda: even_counts(3, 9, pickers=0),
            "pickers: 0 is not a whole number of at least 1",
        ),
        (lambda: even_counts(3, 9, alpha=0.0), "alpha: 0.0 is not between 0 and 1"),
        (
            lambda: even_counts(3, 9, alpha="1%"),  # type: ignore[arg-type]
            "alpha: '1%' is not between 0 and 1",
        ),
        (
            lambda: even_counts(3, 9, mechanism=Mechanism.CONNECTION),
            "mechanism: <Mechanism.CONNECTION: 'connection'> does not pick for each call; give "
            "Mechanism.ROUND_ROBIN or Mechanism.RANDOM (whose counts may be connections)",
        ),
        (lambda: skewed_counts(1, 9), "backends: 1 is not a whole number of at least 2"),
        (lambda: skewed_counts(3, 0), "calls: 0 is not a whole number of at least 1"),
        (lambda: skewed_counts(3, 9, 1.0), "skew: 1.0 is not a number above 1"),
        (lambda: skewed_counts(3, 9, float("inf")), "skew: inf is not a number above 1"),
        (
            lambda: skewed_counts(3, 9, 3.5),
            "skew: 3.5 is more than any of 3 backends can take; the limit is 3",
        ),
        (
            lambda: skewed_counts(3, 4),
            "calls: 4 are too few for a backend that is cold but not dead; with 3 backends and a "
            "skew of 1.5 at least 5 are needed",
        ),
        (lambda: skewed_counts(3, 9, kinds=[]), "kinds: [] is empty; at least 1 is needed"),
        (
            lambda: skewed_counts(3, 9, kinds=[Kill]),  # type: ignore[list-item]
            "kinds: Kill is no kind; choose from SkewKind.HOT, SkewKind.COLD, SkewKind.DEAD, "
            "SkewKind.ALL_ON_ONE",
        ),
    ],
)
def test_a_bad_argument_is_refused_with_its_value_and_limit(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_a_skew_that_only_a_hot_backend_cannot_have_is_allowed_for_others() -> None:
    counts = find(skewed_counts(2, 9, 4.0, kinds=[SkewKind.COLD]), lambda _: True)
    assert values(counts) == (1, 8)  # 9 / 2 / 4 = 1.125
