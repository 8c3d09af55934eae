"""A repo's own service, called by a method's name and JSON: no stubs, no header of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHOP = Path(__file__).with_name("shop")


def repo(pytester: pytest.Pytester, *flags: str, **settings: str) -> None:
    """Make a repository of the shop, with *flags* of its server and ini settings."""
    command = f"{sys.executable} {SHOP / 'server.py'} {{ip}} {{port}} {' '.join(flags)}"
    lines = "".join(f"grpclb_{name} = {value}\n" for name, value in settings.items())
    pytester.makeini(f"[pytest]\ngrpclb_embedded_images = example.org/shop:1 = {command}\n{lines}")
    pytester.makeconftest((SHOP / "conftest_of_repo.py").read_text())


GET_ITEM = {"method": "shop.v1.Catalog/GetItem", "request": '{"id": "42"}'}


def test_who_answers_is_known_without_the_services_help(pytester: pytest.Pytester) -> None:
    repo(pytester, "reflection", **GET_ITEM)
    pytester.makepyfile(
        """
        from pytest_grpclb import assert_even_spread

        WAYS = {
            "headless": "peer of the connection",
            "lookaside": "peer of the connection",
            "envoy-sidecar": "response header 'grpclb-upstream'",
            "ingress-nginx": "response header 'grpclb-upstream'",
        }


        def test_even(grpclb):
            traffic = grpclb.drive()
            assert_even_spread(traffic)
            assert traffic.attribution == WAYS[grpclb.strategy.name]
            with grpclb.channel() as channel:
                call = channel.unary_unary("/shop.v1.Catalog/GetItem")
                for _ in range(30):
                    call(b"")
                traffic = grpclb.recorded(channel)
            assert set(traffic.counts()) == {each.uid for each in grpclb.backends()}
            assert min(traffic.counts().values()) > 0
            assert WAYS[grpclb.strategy.name].startswith(traffic.attribution[:8]) or (
                traffic.attribution == "the subchannel that gRPC picked (channelz)"
            )
        """
    )
    result = pytester.runpytest_subprocess(
        "--grpclb-strategy=headless,lookaside,envoy-sidecar,ingress-nginx", "--grpclb-require"
    )
    result.assert_outcomes(passed=4)


def test_behind_a_cluster_ip_the_error_lists_what_was_tried(pytester: pytest.Pytester) -> None:
    repo(pytester, "reflection", **GET_ITEM)
    pytester.makepyfile(
        """
        import re

        import pytest

        from pytest_grpclb import assert_even_spread
        from pytest_grpclb.errors import InconclusiveError


        def test_nobody_knows(grpclb):
            traffic = grpclb.drive(calls=30)
            with pytest.raises(InconclusiveError) as raised:
                assert_even_spread(traffic)
            told = re.sub(r"127[.0-9]+:50051", "IP:50051", str(raised.value))
            assert told == (
                "INCONCLUSIVE: 30 answered calls did not say which pod answered; tried: peer of "
                "the connection: IP:50051 is no pod's address, response header 'grpclb-backend': "
                "absent; let the service send its pod's name (HOSTNAME) in a response header "
                "(--grpclb-backend-key) or a field of its reply (--grpclb-backend-field); "
                "clusterip is the baseline, where calls are not spread anyway: leave it out with "
                '@pytest.mark.grpclb_skip("clusterip")'
            )
        """
    )
    result = pytester.runpytest_subprocess("--grpclb-strategy=clusterip")
    result.assert_outcomes(passed=1)


def test_a_field_of_the_reply_names_the_pod_behind_a_cluster_ip(pytester: pytest.Pytester) -> None:
    repo(pytester, "reflection", "tells-pod", backend_field="pod.uid", **GET_ITEM)
    pytester.makepyfile(
        """
        from pytest_grpclb import assert_pinned


        def test_pinned(grpclb):
            traffic = grpclb.drive(calls=60)
            assert_pinned(traffic)
            assert traffic.attribution == "reply field 'pod.uid'"
            assert set(traffic.calls.identities) <= {each.uid for each in grpclb.backends()}
        """
    )
    result = pytester.runpytest_subprocess("--grpclb-strategy=clusterip")
    result.assert_outcomes(passed=1)


TESTS_OF_A_REPO = r"""
import asyncio
import sys

import grpc
import pytest

sys.path.insert(0, {shop!r})
import server

from pytest_grpclb import assert_even_spread, assert_no_failed_calls
from pytest_grpclb.errors import DriverError
from pytest_grpclb.report import pod_table

METHOD = "/shop.v1.Catalog/GetItem"


@pytest.fixture(scope="session", autouse=True)
def registered(tmp_path_factory):
    # The stubs of the repository's own: its types are in the common pool, too.
    server.register(tmp_path_factory.mktemp("types"))


def stub(channel):
    request, item = server.message("GetItemRequest"), server.message("Item")
    method = channel.unary_unary(
        METHOD, request_serializer=request.SerializeToString, response_deserializer=item.FromString
    )
    return method, request


def test_another_request_and_allowed_failures(grpclb):
    traffic = grpclb.drive(request={{"id": "missing"}}, allowed_status="NOT_FOUND")
    verdict = assert_even_spread(traffic)
    assert "NOT_FOUND" in pod_table(traffic, verdict).splitlines()[0]
    with pytest.raises(DriverError, match="the last one failed with NOT_FOUND: no such item; "):
        grpclb.drive(calls=20, request={{"id": "missing"}})


@pytest.mark.grpclb(
    request={{"id": "missing"}}, allowed_status=["NOT_FOUND"], metadata={{"x-team": "shop"}}
)
def test_markers(grpclb):
    traffic = grpclb.drive(calls=30)
    assert_no_failed_calls(traffic)
    assert set(traffic.calls.status) == {{5}}


class TestFactory:
    @pytest.fixture
    def grpclb_request_factory(self):
        return lambda sequence: {{"id": "missing" if sequence % 4 == 3 else str(sequence)}}

    def test_every_call_has_a_request_of_its_own(self, grpclb):
        traffic = grpclb.drive(calls=40, concurrency=1)
        status = dict(zip(traffic.calls.sequence, traffic.calls.status))
        assert [n for n, code in sorted(status.items()) if code == 5] == list(range(3, 40, 4))


def test_stubs_of_ones_own(grpclb):
    with grpclb.channel() as channel:
        assert isinstance(channel, grpc.Channel)
        method, request = stub(channel)
        for number in range(618):
            assert method(request(id=str(number))).id == str(number)
        with pytest.raises(grpc.RpcError) as raised:
            method(request(id="missing"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        traffic = grpclb.recorded(channel)
    assert len(traffic.calls) == 619
    assert traffic.attribution == "the subchannel that gRPC picked (channelz)"
    assert traffic.failures[0].details == "no such item"
    counts = traffic.counts()
    assert max(counts.values()) - min(counts.values()) <= 2, counts
    with pytest.raises(AssertionError, match="^headless: 1 of 619 calls failed"):
        assert_even_spread(traffic)


def test_asyncio_stubs_of_ones_own(grpclb):
    async def calls():
        async with grpclb.aio_channel() as channel:
            assert isinstance(channel, grpc.aio.Channel)
            method, request = stub(channel)
            replies = await asyncio.gather(*(method(request(id=str(n))) for n in range(618)))
            assert [each.id for each in replies] == [str(n) for n in range(618)]
            return grpclb.recorded(channel)

    traffic = asyncio.run(calls())
    assert traffic.attribution == "peer of the connection"
    assert_even_spread(traffic)


def test_other_channels_are_none_of_ours(grpclb):
    with pytest.raises(
        ValueError,
        match=r"^channel: 'mine' is none that grpclb.channel\(\) or grpclb.aio_channel\(\) made$",
    ):
        grpclb.recorded("mine")
"""


def test_a_repo_calls_its_own_service(pytester: pytest.Pytester) -> None:
    repo(pytester, "reflection", **GET_ITEM)
    pytester.makepyfile(TESTS_OF_A_REPO.format(shop=str(SHOP)))
    result = pytester.runpytest_subprocess("--grpclb-strategy=headless", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=6)


@pytest.mark.parametrize("way", ["protos", "descriptor_set"])
def test_without_reflection_files_tell_the_types(pytester: pytest.Pytester, way: str) -> None:
    pytester.path.joinpath("api").mkdir()
    pytester.path.joinpath("api", "shop.proto").write_bytes((SHOP / "shop.proto").read_bytes())
    if way == "protos":
        settings = {"protos": "api/shop.proto", "proto_path": "api"}
    else:
        make = [sys.executable, "-m", "grpc_tools.protoc", "-Iapi", "--include_imports"]
        subprocess.run([*make, "--descriptor_set_out=shop.pb", "shop.proto"], check=True)
        settings = {"descriptor_set": "shop.pb"}
    repo(pytester, **GET_ITEM, **settings)
    pytester.makepyfile(
        """
        from pytest_grpclb import assert_no_failed_calls


        def test_called(grpclb):
            assert_no_failed_calls(grpclb.drive(calls=30))
        """
    )
    result = pytester.runpytest_subprocess("--grpclb-strategy=headless")
    result.assert_outcomes(passed=1)


def test_without_reflection_or_files_the_error_says_what_to_set(pytester: pytest.Pytester) -> None:
    repo(pytester, **GET_ITEM)
    pytester.makepyfile("def test_called(grpclb): pass")
    result = pytester.runpytest_subprocess("--grpclb-strategy=headless")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E  *TypesError: types by server reflection: the service does not have it; enable "
            "server reflection in the service, or set --grpclb-protos or --grpclb-descriptor-set"
        ]
    )


def test_a_service_that_refuses_every_call_is_told_with_what_to_set(
    pytester: pytest.Pytester,
) -> None:
    repo(pytester, "reflection", method=GET_ITEM["method"], request='{"id": "missing"}')
    pytester.makepyfile("def test_called(grpclb): grpclb.drive()")
    result = pytester.runpytest_subprocess("--grpclb-strategy=headless")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E  *DriverError: no call to dns:///grpclb-headless.*:50051 was answered during "
            "warm-up; the last one failed with NOT_FOUND: no such item; correct --grpclb-method, "
            "--grpclb-request or --grpclb-metadata, or, if it is an answer as it should be, set "
            "--grpclb-allowed-status=NOT_FOUND"
        ]
    )


def test_a_slow_pod_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SLOW_SUFFIX", ".2")
    repo(pytester, "reflection", **GET_ITEM)
    pytester.makepyfile(
        """
        from pytest_grpclb import assert_even_spread
        from pytest_grpclb.report import pod_table


        def test_slow(grpclb):
            traffic = grpclb.drive(300, request={"id": "1", "pause": "0.1s"})
            [slow] = [each for each in grpclb.backends() if each.address.endswith(".2")]
            last = pod_table(traffic, assert_even_spread(traffic)).splitlines()[-1]
            assert last.startswith(f"slow: half of the calls to {slow.name} took 1")
        """
    )
    result = pytester.runpytest_subprocess("--grpclb-strategy=headless")
    result.assert_outcomes(passed=1)
