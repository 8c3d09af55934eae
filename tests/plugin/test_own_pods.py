"""Whole runs whose pods are as a cluster wants them: its registry, its users, its quota."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.api.kube import NAMESPACES, KubeApi, Resource

from .real_clusters import existing_options, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

SECRETS = Resource("v1", "secrets", namespaced=True)
LOOKS = """
import json
from pathlib import Path

from pytest_grpclb.clusters.api.kube import PODS, Resource

def test_it(grpclb, grpclb_cluster, grpclb_namespace):
    grpclb.drive(calls=5)
    secrets = Resource("v1", "secrets", namespaced=True)
    found = {
        each["spec"]["containers"][0]["name"]: each["spec"]
        for each in grpclb_cluster.api.list(PODS, grpclb_namespace)
    }
    copies = {
        each["metadata"]["name"]: [each["type"], each["data"]]
        for each in grpclb_cluster.api.list(secrets, grpclb_namespace)
    }
    Path("seen").write_text(json.dumps([found, copies]))
"""
DOCKER = "kubernetes.io/dockerconfigjson"
LOGIN = {".dockerconfigjson": "e30="}


@pytest.fixture
def team(existing: EmbeddedCluster) -> Iterator[str]:
    """A namespace that has the Secret "registry"."""
    with closing(KubeApi(existing.kubeconfig, existing.context)) as api:
        api.request("POST", NAMESPACES.path(), body={"metadata": {"name": "team"}})
        for name, kind in (("registry", DOCKER), ("other", "Opaque")):
            data = LOGIN if kind == DOCKER else {}
            body = {"metadata": {"name": name}, "type": kind, "data": data}
            api.request("POST", SECRETS.path("team"), body=body)
        yield "team"
        api.delete(NAMESPACES, "", "team")


@pytest.mark.usefixtures("team")
def test_pods_are_as_the_settings_say(pytester: pytest.Pytester, existing: EmbeddedCluster) -> None:
    pytester.makeini(
        "[pytest]\ngrpclb_image_pull_secret = team/registry, here\ngrpclb_run_as_user = none\n"
        'grpclb_pod_resources = {"limits": {"cpu": "1"}}\n'
    )
    pytester.makepyfile(test_it=LOOKS)
    run(pytester, *existing_options(existing)).assert_outcomes(passed=1)
    found, copies = json.loads((pytester.path / "seen").read_text())
    assert found.keys() == {"greeter", "driver"}
    for pod in found.values():
        assert pod["imagePullSecrets"] == [{"name": "grpclb-pull-registry"}, {"name": "here"}]
        assert "runAsUser" not in pod["securityContext"]
        assert pod["containers"][0]["resources"]["limits"]["cpu"] == "1"
        assert "memory" in pod["containers"][0]["resources"]["limits"]
    assert copies == {"grpclb-pull-registry": [DOCKER, LOGIN]}


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (
            "team/other",
            "a Secret of the type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg, not "
            "Opaque",
        ),
        (
            "team/missing",
            "NAMESPACE/NAME of a Secret that this user may read; GET "
            "/api/v1/namespaces/team/secrets/missing: the Kubernetes API answered 404: NotFound: "
            'secrets "missing" not found',
        ),
    ],
)
@pytest.mark.usefixtures("team")
def test_a_secret_that_cannot_be_copied_is_told(
    pytester: pytest.Pytester, existing: EmbeddedCluster, secret: str, expected: str
) -> None:
    pytester.makepyfile(test_it=LOOKS)
    result = run(pytester, *existing_options(existing), f"--grpclb-image-pull-secret={secret}")
    result.assert_outcomes(errors=1)
    told = f"--grpclb-image-pull-secret: {secret!r} cannot be used; expected {expected}"
    assert told in result.stdout.str()


def test_settings_that_cannot_be_used_end_the_run(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngrpclb_run_as_user = root\n")
    pytester.makepyfile(test_it=LOOKS)
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "--grpclb-run-as-user: 'root' cannot be used; expected a user's number, 1 or more: the "
        "programs need not be root; or none"
    ) in result.stderr.str()
