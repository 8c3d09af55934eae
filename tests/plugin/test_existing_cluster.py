"""Whole runs on an existing cluster, by its kubeconfig: what is made, kept, and never touched."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.api.kube import NAMESPACES, KubeApi
from pytest_grpclb.clusters.namespaces import ABANDONED_AFTER, delete_abandoned
from tests.cluster.faulty_api import Fault, FaultyApi

from .interrupted import IN_A_TEST, IN_SETUP
from .real_clusters import DEADLINE_S, FAILS, PASSES, existing_options, run, summary, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster


def test_a_run_in_an_existing_cluster_deletes_its_namespaces_and_no_other(
    pytester: pytest.Pytester, existing: EmbeddedCluster, namespaces: Callable[[], set[str]]
) -> None:
    api = KubeApi(existing.kubeconfig, existing.context)
    theirs = {"metadata": {"name": "grpclb-of-somebody-else"}}
    api.request("POST", NAMESPACES.path(), body=theirs)
    api.close()
    config = existing.kubeconfig.read_bytes()
    pytester.makepyfile(test_it=PASSES)
    run(pytester, *existing_options(existing)).assert_outcomes(passed=1)
    assert namespaces() == {"grpclb-of-somebody-else"}
    assert existing.kubeconfig.read_bytes() == config


@pytest.mark.parametrize(("real", "within_s"), [(True, (4.4, 3.0)), (False, (1.0, 0.0))])
def test_deadlines_allow_for_how_slow_a_real_ingress_controller_and_kubelet_are(
    pytester: pytest.Pytester, existing: EmbeddedCluster, real: bool, within_s: tuple[float, float]
) -> None:
    pytester.makepyfile(
        test_it="def test_it(grpclb):\n"
        "    timers = grpclb.drive(calls=5).timers\n"
        f"    assert (timers.push_s, timers.kill_s) == {within_s}\n"
    )
    ingress = existing.ingress_address(https=True)
    where = [*existing_options(existing), f"--grpclb-ingress={ingress}"] if real else []
    run(pytester, "--grpclb-strategy=ingress-nginx", *where).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("keep", "test", "kept"),
    [
        ("never", FAILS, 0),
        ("on-failure", PASSES, 0),
        ("on-failure", FAILS, 1),
        ("always", PASSES, 1),
    ],
)
def test_what_is_kept_is_told_with_the_command_that_deletes_it(
    pytester: pytest.Pytester,
    existing: EmbeddedCluster,
    namespaces: Callable[[], set[str]],
    keep: str,
    test: str,
    kept: int,
) -> None:
    pytester.makepyfile(test_it=test)
    result = run(pytester, *existing_options(existing), f"--grpclb-keep={keep}")
    assert len(namespaces()) == kept
    with closing(KubeApi(existing.kubeconfig, existing.context)) as api:
        # What is kept is nothing that a run has left behind because it died.
        later = datetime.now(UTC) + ABANDONED_AFTER + timedelta(minutes=1)
        assert delete_abandoned(api, now=later) == ()
    assert summary(result) == [
        f"grpclb: kept namespace {name!r} of test_it.py::test_it[headless]; delete it with: "
        f"kubectl --kubeconfig={existing.kubeconfig} --context={existing.context} "
        f"delete namespace {name}"
        for name in namespaces()
    ]


def test_what_workers_keep_is_told_by_the_main_process(
    pytester: pytest.Pytester, existing: EmbeddedCluster, namespaces: Callable[[], set[str]]
) -> None:
    pytester.makepyfile(test_it=PASSES)
    result = run(pytester, *existing_options(existing), "--grpclb-keep=always", "-n1")
    result.assert_outcomes(passed=1)
    [name] = namespaces()
    [line] = summary(result)
    assert name.endswith("-gw0-1")
    assert f"kept namespace {name!r}" in line


@pytest.mark.parametrize("test", [IN_A_TEST, IN_SETUP], ids=["test", "setup"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_run_that_is_interrupted_deletes_what_it_made(
    pytester: pytest.Pytester,
    existing: EmbeddedCluster,
    namespaces: Callable[[], set[str]],
    test: str,
    how: signal.Signals,
) -> None:
    pytester.makepyfile(test_it=test)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    with (
        (pytester.path / "output").open("wb") as output,
        subprocess.Popen(
            [*command, *existing_options(existing)],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        ) as process,
    ):
        try:
            until((pytester.path / "reached").exists, "the moment to interrupt")
            assert len(namespaces()) == 1
            process.send_signal(how)
            assert process.wait(DEADLINE_S) == pytest.ExitCode.INTERRUPTED
        finally:
            process.kill()
    assert namespaces() == set()


def test_a_run_survives_an_api_that_fails_at_each_first_request(
    pytester: pytest.Pytester, existing: EmbeddedCluster, namespaces: Callable[[], set[str]]
) -> None:
    faults = itertools.cycle((Fault(reset=True), Fault(status=429), Fault(status=503)))
    met: set[tuple[str, str]] = set()

    def plan(verb: str, path: str) -> Fault | None:
        what = verb, path.partition("?")[0]
        if what in met:
            return None
        met.add(what)
        return next(faults)

    pytester.makepyfile(test_it=PASSES)
    with FaultyApi(existing.kubeconfig, pytester.path, plan) as proxy:
        options = [*existing_options(existing), f"--grpclb-kubeconfig={proxy.leads_here}"]
        run(pytester, *options).assert_outcomes(passed=1)
    assert {verb for verb, _ in met} >= {"GET", "POST", "PATCH", "DELETE"}
    assert namespaces() == set()


def test_an_existing_cluster_wants_its_context_and_its_image_named(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it=PASSES)
    result = run(pytester, "--grpclb-cluster=kubeconfig")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "--grpclb-context: '' cannot be used; expected the name of the context to use: with "
        "--grpclb-cluster=kubeconfig none is taken by default; `kubectl config get-contexts` "
        "lists them"
    ) in result.stderr.str()
    result = run(pytester, "--grpclb-cluster=kubeconfig", "--grpclb-context=work")
    assert (
        "--grpclb-image: '' cannot be used; expected REPOSITORY:TAG of this package's programs "
        "where the cluster can pull it; `python -m pytest_grpclb.clusters.image REPOSITORY:TAG` "
        "builds it, `docker push` brings it there"
    ) in result.stderr.str()


def test_a_context_that_is_named_for_another_cluster_is_no_context(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    for cluster, option in (
        ("embedded", "--grpclb-context=prod"),
        ("kind", "--grpclb-kubeconfig=prod"),
    ):
        result = run(pytester, option, f"--grpclb-cluster={cluster}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert (
            f"{option.partition('=')[0]}: 'prod' cannot be used; expected "
            f"--grpclb-cluster=kubeconfig beside it; the cluster is {cluster!r}"
        ) in result.stderr.str()
    pytester.makeini("[pytest]\ngrpclb_context = prod\n")
    run(pytester).assert_outcomes(passed=1)


def test_a_context_that_is_not_there_is_an_error_with_those_that_are(
    pytester: pytest.Pytester, existing: EmbeddedCluster
) -> None:
    pytester.makepyfile(test_it=PASSES)
    result = run(pytester, *existing_options(existing), "--grpclb-context=production")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E*OptionError: --grpclb-context: 'production' cannot be used; expected one of the "
            f"contexts of {existing.kubeconfig}: {existing.context}"
        ]
    )


def without_token(existing: EmbeddedCluster, folder: Path, user: dict[str, object]) -> Path:
    """Return a kubeconfig that leads to the cluster by other credentials."""
    config = json.loads(existing.kubeconfig.read_text())
    config["users"][0]["user"] = user
    path = folder / "kubeconfig-of-another"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "echo 'Error loading SSO Token: it has expired' >&2; exit 255",
            "process returned 255. Error loading SSO Token: it has expired",
        ),
        ("echo '{}'", "malformed response. missing key 'apiVersion'"),
        (None, "[Errno 2] No such file or directory: {command!r}"),
    ],
)
def test_a_credential_plugin_that_fails_is_told_in_its_own_words(
    pytester: pytest.Pytester, existing: EmbeddedCluster, words: str | None, told: str
) -> None:
    command = pytester.path / "token-of-the-cloud"
    if words is not None:
        command.write_text(f"#!/bin/sh\n{words}\n")
        command.chmod(0o700)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(command),
        "interactiveMode": "Never",
        "installHint": "see https://cloud.example.com/cli",
    }
    kubeconfig = without_token(existing, pytester.path, {"exec": plugin})
    pytester.makepyfile(test_it=PASSES)
    result = run(pytester, *existing_options(existing), f"--grpclb-kubeconfig={kubeconfig}")
    result.assert_outcomes(errors=1)
    expected = (
        "ClusterStartError: cluster provider 'kubeconfig' did not start: context "
        f"{existing.context!r} of {kubeconfig}: the credential plugin {str(command)!r} of "
        f"the kubeconfig gave no credential: {told.format(command=str(command))}; log in again, "
        "or, if it is not there, install it (see https://cloud.example.com/cli)"
    )
    assert expected in result.stdout.str()


def test_a_credential_that_has_expired_is_the_plugins(
    pytester: pytest.Pytester, existing: EmbeddedCluster
) -> None:
    version = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "old"}}
    plugin = {"apiVersion": version, "command": "echo", "args": [json.dumps(credential)]}
    kubeconfig = without_token(existing, pytester.path, {"exec": plugin})
    pytester.makepyfile(test_it=PASSES)
    result = run(pytester, *existing_options(existing), f"--grpclb-kubeconfig={kubeconfig}")
    result.assert_outcomes(errors=1)
    told = (
        "the Kubernetes API answered 401: Unauthorized: the request carries no bearer token of "
        "this embedded cluster; use its kubeconfig; the credential plugin 'echo' of the kubeconfig "
        "gave this credential; log in again where it has expired"
    )
    assert f"context {existing.context!r} of {kubeconfig}: GET /version: {told}" in (
        result.stdout.str()
    )


def test_a_set_up_that_fails_leaves_what_its_namespace_held(
    pytester: pytest.Pytester, existing: EmbeddedCluster, namespaces: Callable[[], set[str]]
) -> None:
    pytester.makepyfile(test_it=PASSES)
    result = run(
        pytester,
        *existing_options(existing),
        "--grpclb-image=registry.example.com/missing:1",
        "--grpclb-ready-timeout=2",
        "--grpclb-artifacts=saved",
    )
    result.assert_outcomes(errors=1)
    assert namespaces() == set()
    saved = pytester.path / "saved" / "test-it-py--test-it-headless-"
    files = {path.name for path in saved.iterdir()}
    assert files >= {"failure.txt", "describe.txt", "events.txt", "objects.json"}
    assert "0 of 1 replicas ready after" in (saved / "failure.txt").read_text()
    reason = "no command of this machine stands for the image"
    assert reason in (saved / "describe.txt").read_text()
    assert reason in (saved / "events.txt").read_text()
    objects = json.loads((saved / "objects.json").read_text())
    # The driver would have come after the pods: this cluster's DNS caches.
    assert [each["metadata"]["name"] for each in objects["deployments"]] == ["greeter"]
    assert "secrets" not in objects
    logs = [path.read_text() for path in saved.glob("greeter-*.log")]
    assert len(logs) == 1
    assert logs[0].startswith("(it cannot be read: ")
