"""Whole runs on clusters that outlive them: what is made, shared, kept, and never touched."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster
from pytest_grpclb.clusters.kube import NAMESPACES, PODS, KubeApi, Resource
from tests.cluster.faulty_api import Fault, FaultyApi
from tests.cluster.stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 60.0
CLASSES = Resource("networking.k8s.io/v1", "ingressclasses", namespaced=False)
PASSES = "def test_it(grpclb): grpclb.drive(calls=5)\n"
FAILS = "def test_it(grpclb): assert grpclb.drive(calls=5).failures\n"
IN_A_TEST = """
from pathlib import Path

def test_long(grpclb):
    with grpclb.traffic(rate=50) as traffic:
        Path("reached").touch()
        while True:
            traffic.wait(60)
"""
IN_SETUP = """
from pathlib import Path
import signal

import pytest

@pytest.fixture
def grpclb_call(grpclb_namespace):
    Path("reached").touch()
    signal.pause()

def test_never_begins(grpclb):
    pass
"""


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A cluster that is there before the runs and after them."""
    stand_in = str(Path(__file__).parents[1] / "cluster" / "stand_ins" / "controller.py")
    cluster = EmbeddedCluster(
        tmp_path_factory.mktemp("existing") / "cluster",
        images={
            "registry.k8s.io/ingress-nginx/controller": [
                sys.executable,
                "-P",
                stand_in,
                "{ip}",
            ]
        },
    )
    try:
        cluster.start()
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def namespaces(existing: EmbeddedCluster) -> Iterator[Callable[[], set[str]]]:
    """Return the namespaces that runs have made and that stay."""
    api = KubeApi(existing.kubeconfig, existing.context)

    def find() -> set[str]:
        return {
            each["metadata"]["name"]
            for each in api.list(NAMESPACES)
            if each["metadata"]["name"].startswith("grpclb-")
            and "deletionTimestamp" not in each["metadata"]
        }

    yield find
    for name in find():
        api.delete(NAMESPACES, "", name)
    api.close()


@pytest.fixture
def stand_ins(
    existing: EmbeddedCluster, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> StandIns:
    made = StandIns.install(
        pytester.path / "stand-ins",
        kubeconfig=existing.kubeconfig,
        ingress={
            "80/tcp": existing.ingress_address(https=False),
            "443/tcp": existing.ingress_address(https=True),
        },
    )
    monkeypatch.setenv("PATH", made.path_variable())
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))
    return made


def existing_options(existing: EmbeddedCluster) -> list[str]:
    return [
        "--grpclb-cluster=kubeconfig",
        f"--grpclb-kubeconfig={existing.kubeconfig}",
        f"--grpclb-context={existing.context}",
        f"--grpclb-image={existing.programs_image}",
        "--grpclb-replicas=1",
    ]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def summary(result: pytest.RunResult) -> list[str]:
    return [line for line in result.stdout.lines if line.startswith("grpclb: ") and "kept" in line]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"timed out: {what}"
        time.sleep(0.01)  # the pause between two looks


# --- an existing cluster


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
        if what in met or "portforward" in path:
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


# --- kind


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


@pytest.mark.parametrize("workers", [0, 2])
def test_the_examples_run_on_kind_as_they_do_on_the_embedded_cluster(
    pytester: pytest.Pytester, existing: EmbeddedCluster, stand_ins: StandIns, workers: int
) -> None:
    """With an ingress controller installed by the run, for kind's clusters have none."""
    api = KubeApi(existing.kubeconfig, existing.context)
    for each in api.list(CLASSES):
        api.delete(CLASSES, "", each["metadata"]["name"])
    folder = Path(__file__).parents[2] / "example_tests"
    files = [str(folder / f"test_{name}.py") for name in ("even_spread", "ingress", "lookaside")]
    options = ["--grpclb-cluster=kind", "--grpclb-strategy=all", f"-n{workers}"]
    result = run(pytester, *files, *options)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "skipped"}
    assert outcomes["passed"] >= 15
    assert stand_ins.get()["clusters"] == {}
    [pod] = api.list(PODS, "ingress-nginx")
    assert pod["status"]["phase"] == "Running"
    api.delete(NAMESPACES, "", "ingress-nginx")
    until(lambda: "ingress-nginx" not in names(api), "the controller's namespace is gone")
    api.close()


def names(api: KubeApi) -> set[str]:
    return {each["metadata"]["name"] for each in api.list(NAMESPACES)}


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
            "--grpclb-image: 'programs' cannot be used; "
            "expected REPOSITORY:TAG, with a tag other than 'latest'",
        ),
        (
            "--grpclb-load-image=shop:latest",
            "--grpclb-load-image: 'shop:latest' cannot be used; "
            "expected REPOSITORY:TAG, with a tag other than 'latest'",
        ),
        (
            "--grpclb-image=localhost:5000/programs",
            "--grpclb-image: 'localhost:5000/programs' cannot be used; "
            "expected REPOSITORY:TAG, with a tag other than 'latest'",
        ),
    ],
)
def test_options_that_cannot_be_used(pytester: pytest.Pytester, option: str, message: str) -> None:
    pytester.makepyfile(test_it=PASSES)
    result = run(pytester, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
