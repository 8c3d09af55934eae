from __future__ import annotations

from pytest_grpclb.model import Calls
from pytest_grpclb.statistics import (
    Answer,
    ChannelPath,
    answers,
    channel_paths,
    count_unnamed,
    first_answers,
)

from .made_traffic import Rows


def test_answers_leave_out_failed_and_unnamed_calls() -> None:
    rows = Rows()
    rows.fail(14, at_s=0.0)
    rows.unnamed(at_s=1.0)
    rows.answer("a", at_s=2.0, channel=3)
    assert list(answers(rows.calls())) == [Answer(2, 3, 2.0, 2.001, "a")]
    assert count_unnamed(rows.calls()) == 1


def test_a_failed_call_is_no_answer_even_where_it_is_known_whose_it_is() -> None:
    calls = Calls(
        sequence=(0, 1),
        channel=(0, 0),
        sent_s=(0.0, 1.0),
        done_s=(0.5, 1.5),
        backend=(0, 0),
        status=(14, 5),
        identities=("a",),
        allowed=frozenset({5}),
    )
    assert list(answers(calls)) == [Answer(1, 0, 1.0, 1.5, "a")]


def test_the_first_answer_of_a_backend_is_the_one_that_ended_first() -> None:
    rows = Rows()
    for at_s, backend in enumerate("abab"):
        rows.answer(backend, at_s=at_s)
    assert first_answers(rows.calls()) == {"a": 0.001, "b": 1.001}


def test_a_channel_s_path_follows_the_order_of_sending() -> None:
    # Sent a a b b, ended a b a b: one switch, not three.
    calls = Calls(
        sequence=(0, 2, 1, 3),
        channel=(0, 0, 0, 0),
        sent_s=(0.0, 0.2, 0.1, 0.3),
        done_s=(0.4, 0.5, 0.6, 0.7),
        backend=(0, 1, 0, 1),
        status=(0, 0, 0, 0),
        identities=("a", "b"),
    )
    assert channel_paths(answers(calls)) == [
        ChannelPath(channel=0, first_backend="a", calls=4, switches=1)
    ]


def test_channels_have_paths_of_their_own() -> None:
    rows = Rows()
    for backend, channel in (("b", 1), ("a", 0), ("b", 1), ("c", 0)):
        rows.answer(backend, channel=channel)
    assert channel_paths(answers(rows.calls())) == [
        ChannelPath(channel=0, first_backend="a", calls=2, switches=1),
        ChannelPath(channel=1, first_backend="b", calls=2, switches=0),
    ]


def test_no_calls_have_no_paths() -> None:
    assert channel_paths(answers(Calls())) == []
    assert first_answers(Calls()) == {}
