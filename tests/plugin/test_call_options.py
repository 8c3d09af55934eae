"""Options that say what is called; what cannot be used ends the run before anything is started."""

from __future__ import annotations

import json

import pytest

EMPTY = "def test_nothing(): pass\n"
METHOD = "--grpclb-method=shop.v1.Catalog/GetItem"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--grpclb-method=GetItem"],
            "--grpclb-method: 'GetItem' cannot be used; expected package.Service/Method",
        ),
        (
            ["--grpclb-request={}"],
            "--grpclb-request: '{}' cannot be used; expected --grpclb-method beside it",
        ),
        (
            [METHOD, '--grpclb-request={"id": }'],
            "--grpclb-request: '{\"id\": }' cannot be used; expected JSON: Expecting value, at "
            "line 1, column 8",
        ),
        (
            [METHOD, "--grpclb-request=@bad.json"],
            "--grpclb-request: '@bad.json' cannot be used; expected JSON: Expecting value, in "
            "bad.json at line 2, column 1",
        ),
        (
            [METHOD, "--grpclb-request=@none.json"],
            "--grpclb-request: '@none.json' cannot be used; expected a file of JSON that can be "
            "read: No such file or directory",
        ),
        (
            ["--grpclb-timeout=0"],
            "--grpclb-timeout: '0' cannot be used; expected a number above 0",
        ),
        (
            ["--grpclb-metadata=x-team"],
            "--grpclb-metadata: 'x-team' cannot be used; expected KEY=VALUE",
        ),
        (
            ["--grpclb-metadata=X-Team=shop"],
            "--grpclb-metadata: 'X-Team' cannot be used; expected a key of lower-case letters, "
            "digits, _ . -; no -bin",
        ),
        (
            ["--grpclb-metadata=x-team=sh\u00f6p"],
            "--grpclb-metadata: 'sh\u00f6p' cannot be used; expected printable ASCII as the value "
            "of x-team",
        ),
        (
            ["--grpclb-backend-key=X-Pod"],
            "--grpclb-backend-key: 'X-Pod' cannot be used; expected lower-case letters, digits, _ "
            ". -",
        ),
        (
            ["--grpclb-protos=a.proto", "--grpclb-descriptor-set=a.pb"],
            "--grpclb-descriptor-set: 'a.pb' cannot be used; expected it, or --grpclb-protos, and "
            "not both",
        ),
        (
            ["--grpclb-allowed-status=NOT_FOUND,GONE"],
            "--grpclb-allowed-status: 'GONE' cannot be used; expected one of CANCELLED, UNKNOWN, "
            "INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, "
            "RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, "
            "INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED",
        ),
    ],
)
def test_an_option_that_cannot_be_used_ends_the_run(
    pytester: pytest.Pytester, arguments: list[str], message: str
) -> None:
    pytester.makepyfile(EMPTY)
    pytester.path.joinpath("bad.json").write_text('{"id":\n}')
    result = pytester.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines == [f"ERROR: {message}", ""]


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "request='x'",
            "request: 'x' cannot be used; expected a JSON object, such as {'id': '42'}, or bytes",
        ),
        ("method='x'", "method: 'x' cannot be used; expected package.Service/Method"),
        (
            "backend_field=1",
            "backend_field: 1 cannot be used; expected the name of a field, such as 'pod.uid'",
        ),
    ],
)
def test_a_marker_that_cannot_be_used_is_told_at_collection(
    pytester: pytest.Pytester, marker: str, message: str
) -> None:
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.grpclb({marker})\ndef test_x(grpclb_settings): pass"
    )
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*.py::test_x: marker grpclb: {message}"])


def test_settings_of_the_ini_file_reach_the_call(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("request.json").write_text(json.dumps({"id": "42"}))
    pytester.makeini(
        """
        [pytest]
        grpclb_method = shop.v1.Catalog/GetItem
        grpclb_request = @request.json
        grpclb_timeout = 2.5
        grpclb_metadata = x-team = shop
            x-tier=gold, or so
        grpclb_allowed_status = NOT_FOUND, ABORTED
        grpclb_backend_key = x-pod
        grpclb_backend_field = pod.uid
        """
    )
    pytester.makepyfile(
        """
        import pytest
        from pytest_grpclb.model import NamedCall


        def test_call(grpclb_call):
            assert grpclb_call == NamedCall(
                method="shop.v1.Catalog/GetItem",
                request={"id": "42"},
                timeout_s=2.5,
                metadata=(("x-team", "shop"), ("x-tier", "gold, or so")),
                allowed_status=(5, 10),
                backend_key="x-pod",
                backend_field="pod.uid",
            )


        @pytest.mark.grpclb(
            method="shop.v1.Catalog/PutItem", request={"id": "1"}, timeout_s=1, metadata={"a": "b"},
            allowed_status="NOT_FOUND", backend_key="", backend_field="",
        )
        def test_marker(grpclb_call):
            assert grpclb_call == NamedCall(
                method="shop.v1.Catalog/PutItem", request={"id": "1"}, timeout_s=1.0,
                metadata=(("a", "b"),), allowed_status=(5,),
            )
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_without_a_method_the_greeter_is_called_as_the_settings_say(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        def test_call(grpclb_call):
            assert grpclb_call.method == "/helloworld.Greeter/SayHello"
            assert (grpclb_call.timeout_s, grpclb_call.backend_key) == (3.0, "grpclb-backend")
        """
    )
    pytester.runpytest("--grpclb-timeout=3").assert_outcomes(passed=1)


def test_protos_are_found_below_the_root_or_as_protoc_has_it_below_the_proto_path(
    pytester: pytest.Pytester,
) -> None:
    for folder in ("api/shop", "shop"):
        (pytester.path / folder).mkdir(parents=True)
    (pytester.path / "api" / "shop" / "catalog.proto").touch()
    (pytester.path / "shop" / "cart.proto").touch()
    pytester.makepyfile(
        """
        from pytest_grpclb.fixtures import OPTIONS

        def test_types(pytestconfig):
            root = pytestconfig.rootpath
            assert pytestconfig.stash[OPTIONS].types.protos == (
                root / "api/shop/catalog.proto",
                root / "shop/cart.proto",
                root / "shop/none.proto",
            )
        """
    )
    result = pytester.runpytest(
        "--grpclb-proto-path=api",
        "--grpclb-protos=shop/catalog.proto,shop/cart.proto,shop/none.proto",
    )
    result.assert_outcomes(passed=1)
