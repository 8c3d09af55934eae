"""What people read where something fails: the message, and nothing before it."""

from __future__ import annotations

import pytest

TEST = """
    def test_it(grpclb):
        pass
"""
# As pytest-asyncio's: its frame is in the traceback of every fixture that fails.
WRAPPER = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    return (yield)
"""
MISSING = "No such file or directory"


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--grpclb-command=x {ip} {port}", *arguments
    )
    result.assert_outcomes(errors=1)
    return result


def test_an_error_in_set_up_is_its_message_without_its_cause_and_other_plugins_frames(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(TEST)
    installed = pytester.mkdir("site-packages")
    (installed / "wrapping.py").write_text(WRAPPER)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    result = run(pytester, "-p", "wrapping", "--grpclb-tls-ca=missing.pem")
    start = next(n for n, line in enumerate(result.outlines) if "ERROR at setup" in line)
    told = [line for line in result.outlines[start + 1 :] if line.strip()]
    assert told[0] == (
        "E   pytest_grpclb.errors.ServiceError: --grpclb-tls-ca: [Errno 2] "
        f"{MISSING}: '{pytester.path}/missing.pem'; name a PEM file"
    )
    assert told[1].startswith("All traceback entries are hidden.")


def test_what_the_api_refuses_is_its_message(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        from pytest_grpclb.clusters.api.kube import PODS

        @pytest.fixture
        def grpclb_service(grpclb_cluster):
            return grpclb_cluster.api.get(PODS, "nowhere", "nothing")
        """
    )
    pytester.makepyfile(TEST)
    result = run(pytester)
    result.stdout.fnmatch_lines([">*grpclb_cluster.api.get(*", "E*ApiError: GET *"])
    assert not [line for line in result.outlines if "pytest_grpclb/clusters/api/kube.py" in line]


def test_its_cause_is_shown_with_the_full_trace(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    result = run(pytester, "--full-trace", "--grpclb-tls-ca=missing.pem")
    result.stdout.fnmatch_lines([f"E*FileNotFoundError: *{MISSING}*"])


def test_a_cause_in_the_user_s_own_code_is_shown(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        from pytest_grpclb.errors import ServiceError

        @pytest.fixture
        def grpclb_service():
            try:
                {}["of the repository"]
            except KeyError as error:
                raise ServiceError("mine", message="is not there", advice="write it") from error
        """
    )
    pytester.makepyfile(TEST)
    result = run(pytester)
    result.stdout.fnmatch_lines(
        [
            "*KeyError: 'of the repository'",
            ">*raise ServiceError(*",
            "E*ServiceError: mine: is not there; write it",
        ]
    )


@pytest.mark.parametrize(("keep", "outcome"), [("always", "passed"), ("on-failure", "failed")])
def test_keeping_what_ends_with_the_run_is_told_to_be_no_use(
    pytester: pytest.Pytester, keep: str, outcome: str
) -> None:
    pytester.makepyfile(
        f"def test_it(grpclb_namespace): assert {outcome == 'passed'}\n"
        "def test_it_again(grpclb_namespace): pass"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--grpclb-keep={keep}")
    notes = [line for line in result.outlines if "keeps nothing" in line]
    assert notes == [
        f"--grpclb-keep={keep} keeps nothing: the cluster 'embedded' ends with the run; "
        "--grpclb-artifacts=DIR saves what tests that fail leave"
    ]


def test_the_fixture_of_a_test_that_failed_says_what_it_was(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(grpclb): assert grpclb is None")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    assert "grpclb = <Grpclb: greeter behind headless>" in result.outlines
