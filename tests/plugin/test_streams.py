from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TEST = """
    import dataclasses
    import pytest
    from pytest_grpclb import CallKind, CallTemplate, assert_even_streams, assert_no_failed_calls
    from pytest_grpclb.errors import DriverError

    def test_what_cannot_be_opened(grpclb):
        for arguments, message in (
            ({"streams": 0}, "streams must be 1 or more, got 0"),
            ({"channels": 0}, "channels must be 1 or more, got 0"),
            ({"duration_s": 0}, "duration_s must be above 0, got 0; None: without an end"),
            ({"call": grpclb.call}, "call: '/helloworld.Greeter/SayHello' is unary; a stream has "
             "kind=CallKind.SERVER_STREAMING or kind=CallKind.BIDIRECTIONAL_STREAMING"),
        ):
            with pytest.raises(ValueError) as raised, grpclb.streams(**arguments):
                pass
            assert str(raised.value) == message
        # A slash before the name is as good as none.
        unknown = CallTemplate(method="helloworld.Greeter/Wave", kind=CallKind.SERVER_STREAMING)
        with pytest.raises(DriverError) as raised, grpclb.streams(3, call=unknown):
            pass
        first = str(raised.value).splitlines()[0]
        assert "the last one failed with UNIMPLEMENTED: " in first
        assert first.endswith(
            "; /helloworld.Greeter/Wave was opened, and its service refuses that: say what to open "
            "by the fixture grpclb_stream, as CallTemplate(method=..., request=..., kind=...)"
        )
        hurried = dataclasses.replace(grpclb.stream, message_interval_s=-1)
        with pytest.raises(DriverError, match=r"call.stream.interval_s: -1.0 cannot be used"):
            with grpclb.streams(3, call=hurried):
                pass


    class TestAStreamOfItsOwn:
        @pytest.fixture
        def grpclb_stream(self):
            return CallTemplate(
                method="/helloworld.Greeter/SayHelloStreamReply",
                kind=CallKind.SERVER_STREAMING,
            )

        @pytest.mark.grpclb(max_connection_age_s=None, skew=2.5, replicas=2)
        def test_it_is_opened_and_ends_well(self, grpclb):
            with grpclb.streams(40, channels=2) as traffic:
                counts = traffic.snapshot().open_streams()
                assert sorted(counts.values()) == [20, 20]
            ended = traffic.stop()
            assert_no_failed_calls(ended)
            assert {each.messages_sent for each in ended.streams} == {0}
            assert min(each.messages_received for each in ended.streams) >= 1
            assert ended.open_streams() == counts
"""


def test_streams_from_the_fixture_to_their_end(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--grpclb-strategy=headless")
    result.assert_outcomes(passed=2)
