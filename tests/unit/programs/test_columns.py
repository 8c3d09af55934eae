from __future__ import annotations

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs.columns import Recorder


def record(recorder: Recorder, sequence: int, backend: str | None, status: int = 0) -> None:
    recorder.record(
        sequence,
        sequence % 2,
        sent_s=10.0 + sequence,
        done_s=10.5 + sequence,
        backend=backend,
        status=status,
        details=f"call {sequence}" if status else "",
    )


def test_calls_become_columns_in_the_order_in_which_they_ended() -> None:
    recorder = Recorder()
    record(recorder, 1, "b")
    record(recorder, 0, "a")
    record(recorder, 2, "b")
    record(recorder, 3, None, status=14)
    assert recorder.take() == [
        driver_pb2.Columns(
            sequence=[1, 0, 2, 3],
            channel=[1, 0, 0, 1],
            sent_s=[11.0, 10.0, 12.0, 13.0],
            done_s=[11.5, 10.5, 12.5, 13.5],
            backend=[0, 1, 0, -1],
            status=[0, 0, 0, 14],
            identities=["b", "a"],
            failures=[driver_pb2.Failure(sequence=3, status=14, details="call 3")],
        )
    ]
    assert recorder.calls == 4


def test_a_later_message_tells_only_what_is_new() -> None:
    recorder = Recorder()
    record(recorder, 0, "a")
    recorder.take()
    assert recorder.take() == []
    record(recorder, 1, "a")
    record(recorder, 2, "b")
    (columns,) = recorder.take()
    assert list(columns.backend) == [0, 1]
    assert list(columns.identities) == ["b"]


def test_details_of_a_status_are_told_only_so_often() -> None:
    recorder = Recorder()
    for sequence in range(1500):
        record(recorder, sequence, None, status=14 if sequence % 3 else 4)
    (columns,) = recorder.take()
    told = [failure.status for failure in columns.failures]
    assert told.count(4) == 500
    assert told.count(14) == 1000
    record(recorder, 1500, None, status=14)
    record(recorder, 1501, None, status=4)
    (columns,) = recorder.take()
    assert [failure.sequence for failure in columns.failures] == [1501]


def test_many_calls_are_told_in_messages_that_a_client_can_receive() -> None:
    recorder = Recorder()
    for sequence in range(45_000):
        record(recorder, sequence, "a")
    messages = recorder.take()
    assert [len(message.sequence) for message in messages] == [20_000, 20_000, 5_000]
    assert [list(message.identities) for message in messages] == [["a"], [], []]
    assert max(message.ByteSize() for message in messages) < 4 * 2**20


def test_a_stream_is_told_of_when_it_opens_and_when_it_ends() -> None:
    recorder = Recorder()
    recorder.record_opened(0, 1, sent_s=1.0, opened_s=1.5, backend="a")
    assert recorder.take() == [
        driver_pb2.Columns(
            identities=["a"],
            opened=driver_pb2.Opened(
                sequence=[0], channel=[1], sent_s=[1.0], opened_s=[1.5], backend=[0]
            ),
        )
    ]
    recorder.record(
        *(0, 1), sent_s=1.0, done_s=3.0, backend="a", status=0, details="", messages=(2, 3)
    )
    assert recorder.calls == 1
    [ended] = recorder.take()
    assert list(ended.messages_sent) == [2]
    assert list(ended.messages_received) == [3]
    assert list(ended.opened.sequence) == []


def test_a_stream_that_nothing_names_the_backend_of_is_unnamed() -> None:
    recorder = Recorder()
    recorder.record_opened(0, 0, sent_s=1.0, opened_s=1.5, backend=None)
    [columns] = recorder.take()
    assert (list(columns.opened.backend), list(columns.identities)) == ([-1], [])
