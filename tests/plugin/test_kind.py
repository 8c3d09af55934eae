"""Whole runs on kind, by stand-ins of kind and docker: what is made, shared, kept and deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .interrupted import IN_A_TEST, IN_SETUP
from .real_clusters import DEADLINE_S, FAILS, PASSES, run, summary, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.stand_ins import StandIns


def test_workers_share_one_kind_cluster_with_a_namespace_each(
    pytester: pytest.Pytester, stand_ins: StandIns
) -> None:
    pytester.makepyfile(
        test_it="import pytest\n"
        "@pytest.mark.parametrize('number', range(2))\n"
        "def test_it(grpclb, number): grpclb.drive(calls=5)\n"
    )
    options = ["--grpclb-cluster=kind", "--grpclb-replicas=1", "-n2", "--dist=each"]
    run(pytester, *options).assert_outcomes(passed=4)
    assert len(stand_ins.asked("kind create")) <= 2  # a second, should one end before two begins
    assert stand_ins.get()["clusters"] == {}
    assert not (pytester.path / ".pytest-kind").exists()


@pytest.mark.parametrize("test", [IN_A_TEST, IN_SETUP, ""], ids=["test", "setup", "creation"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_has_the_cluster_deleted(
    pytester: pytest.Pytester, stand_ins: StandIns, test: str, how: signal.Signals
) -> None:
    """Also while kind creates it, which Ctrl-C reaches, too: it goes to all on a terminal."""
    stand_ins.set(create_hangs=not test)
    reached = pytester.path / "reached" if test else stand_ins.state / "hanging"
    pytester.makepyfile(test_it=test or PASSES)
    options = ["--grpclb-cluster=kind", "--grpclb-replicas=1", "-p", "no:cacheprovider"]
    with (pytester.path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    try:
        until(reached.exists, "the moment to interrupt")
        [name] = stand_ins.get()["clusters"]
        if how is signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        status = process.wait(DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    told = (pytester.path / "output").read_text()
    assert status == pytest.ExitCode.INTERRUPTED, told
    assert stand_ins.get()["clusters"] == {}
    deleted = stand_ins.asked("kind delete cluster")
    assert deleted
    assert all(f"--name={name} " in line for line in deleted)
    left = {path.name for path in (pytester.path / "tmp").rglob("*") if path.is_file()}
    assert {each for each in left if each.startswith("grpclb-")} == set()


def test_a_failed_run_keeps_its_kind_cluster_and_says_how_to_delete_it(
    pytester: pytest.Pytester, stand_ins: StandIns, namespaces: Callable[[], set[str]]
) -> None:
    pytester.makepyfile(test_it=FAILS)
    options = ["--grpclb-cluster=kind", "--grpclb-replicas=1", "--grpclb-keep=on-failure"]
    result = run(pytester, *options)
    result.assert_outcomes(failed=1)
    [name] = stand_ins.get()["clusters"]
    command = f"{stand_ins.programs / 'kind'} delete cluster --name={name}"
    lines = summary(result)
    assert len(lines) == 2
    assert lines[0].startswith("grpclb: kept namespace 'grpclb-")
    assert lines[1].startswith(f"grpclb: kept kind cluster {name!r}")
    assert all(line.endswith(f"delete it with: {command}") for line in lines)
    assert len(namespaces()) == 1


def test_the_nodes_logs_are_saved_before_a_failed_runs_cluster_is_deleted(
    pytester: pytest.Pytester, stand_ins: StandIns
) -> None:
    pytester.makepyfile(test_it=FAILS)
    options = ["--grpclb-cluster=kind", "--grpclb-replicas=1", "--grpclb-artifacts=saved"]
    run(pytester, *options).assert_outcomes(failed=1)
    [log] = (pytester.path / "saved").glob("kind-grpclb-*/*-control-plane/kubelet.log")
    assert log.read_text() == "kubelet: no cgroups\n"
    [exported], [deleted] = stand_ins.asked("kind export logs"), stand_ins.asked("kind delete")
    asked = stand_ins.asked("kind")
    assert asked.index(exported) < asked.index(deleted)
    pytester.makepyfile(test_it=PASSES)
    run(pytester, *options).assert_outcomes(passed=1)
    assert len(stand_ins.asked("kind export logs")) == 1


def test_without_docker_tests_are_skipped_with_the_reason_or_fail_if_it_is_required(
    pytester: pytest.Pytester, stand_ins: StandIns
) -> None:
    stand_ins.set(engine_is_down=True)
    pytester.makepyfile(test_it=PASSES)
    reason = (
        f"cluster provider 'kind' cannot be used here: {stand_ins.programs / 'docker'} does not "
        "work: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
        "Is the docker daemon running?; start docker, or use --grpclb-cluster=embedded"
    )
    result = run(pytester, "--grpclb-cluster=kind", "-rs")
    result.assert_outcomes(skipped=1)
    assert f"{reason}; with --grpclb-require this is a failure" in result.stdout.str()
    result = run(pytester, "--grpclb-cluster=kind", "--grpclb-require")
    result.assert_outcomes(errors=1)
    assert f"ClusterUnavailableError: {reason}" in result.stdout.str()
    pytester.makeini("[pytest]\ngrpclb_require = true\ngrpclb_cluster = kind\n")
    run(pytester).assert_outcomes(errors=1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--grpclb-keep=sometimes",
            "--grpclb-keep: 'sometimes' cannot be used; expected one of never, on-failure, always",
        ),
        (
            "--grpclb-image=programs",
            "--grpclb-image: 'programs' cannot be used; expected REPOSITORY:TAG, with a tag other "
            "than 'latest', or REPOSITORY@sha256:DIGEST",
        ),
        (
            "--grpclb-load-image=shop:latest",
            "--grpclb-load-image: 'shop:latest' cannot be used; "
            "expected REPOSITORY:TAG, with a tag other than 'latest'",
        ),
        (
            "--grpclb-image=localhost:5000/programs",
            "--grpclb-image: 'localhost:5000/programs' cannot be used; expected REPOSITORY:TAG, "
            "with a tag other than 'latest', or REPOSITORY@sha256:DIGEST",
        ),
        (
            "--grpclb-image=programs@sha256:0123",
            "--grpclb-image: 'programs@sha256:0123' cannot be used; expected REPOSITORY:TAG, with "
            "a tag other than 'latest', or REPOSITORY@sha256:DIGEST",
        ),
        (
            "--grpclb-base-image=--build-arg X",
            "--grpclb-base-image: '--build-arg X' cannot be used; expected an image, such as "
            "mirror/python:3.11-slim",
        ),
    ],
)
def test_options_that_cannot_be_used(pytester: pytest.Pytester, option: str, message: str) -> None:
    pytester.makepyfile(test_it=PASSES)
    result = run(pytester, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_files_are_looked_for_below_the_root_directory(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all files that settings name are, from wherever pytest is started."""
    pytester.makeini(
        "[pytest]\ngrpclb_kind_config = k8s/kind.yaml\ngrpclb_kubeconfig = k8s/a:~/b:/c\n"
        "grpclb_artifacts = saved\n"
    )
    tests = pytester.mkdir("tests")
    pytester.makeconftest(
        "from pytest_grpclb.fixtures import OPTIONS\n"
        "def pytest_report_header(config):\n"
        "    options = config.stash[OPTIONS]\n"
        "    return [str(options.kind_config), options.kubeconfig, str(options.artifacts)]\n"
    )
    (tests / "test_it.py").write_text("def test_it(): pass\n")
    monkeypatch.chdir(tests)
    monkeypatch.setenv("HOME", "/home/me")
    root = pytester.path
    result = run(pytester)
    result.assert_outcomes(passed=1)
    wanted = [f"{root}/k8s/kind.yaml", f"{root}/k8s/a:/home/me/b:/c", f"{root}/saved"]
    assert [line for line in result.stdout.lines if line in wanted] == wanted
