from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.errors import OptionError
from pytest_grpclb.options.own_pods import OWN_PODS_OPTIONS, read_own_pods
from pytest_grpclb.settings import OwnPods, PullSecret


def read(cluster: str = "kind", **given: Any) -> OwnPods:
    """Read the options, of which those that are not given have their defaults."""
    defaults = {each.name: [] if each.repeatable else each.default for each in OWN_PODS_OPTIONS}
    told = {name.replace("_", "-"): value for name, value in given.items()}
    return read_own_pods(defaults | told, cluster=cluster)


def test_nothing_said_is_as_the_charts_have_it() -> None:
    assert read() == OwnPods()
    assert OwnPods().strategy_values() == OwnPods().sample_values() == {}


def test_what_is_said_becomes_values_of_the_charts() -> None:
    found = read(
        envoy_image="mirror.example.org:5000/envoy:v1.40.0",
        image_pull_secret=["here, team/registry", "other"],
        cluster_domain="corp.example",
        run_as_user="1000680001",
        pod_resources='{"driver": {"limits": {"cpu": "2"}}, "sample": {"requests": null}}',
    )
    secrets = [{"name": "here"}, {"name": "grpclb-pull-registry"}, {"name": "other"}]
    user = {"runAsUser": 1000680001, "runAsGroup": 1000680001}
    assert found.strategy_values() == {
        "imagePullSecrets": secrets,
        "podSecurityContext": user,
        "driver": {"resources": {"limits": {"cpu": "2"}}},
        "envoy": {"image": {"repository": "mirror.example.org:5000/envoy", "tag": "v1.40.0"}},
        "clusterDomain": "corp.example",
    }
    assert found.sample_values() == {
        "imagePullSecrets": secrets,
        "podSecurityContext": user,
        "resources": {"requests": None},
    }


def test_resources_of_no_program_are_those_of_all() -> None:
    found = read(pod_resources='{"limits": {"cpu": "1"}}')
    wanted = {"limits": {"cpu": "1"}}
    assert found.resources == {
        "driver": wanted,
        "envoy": wanted,
        "balancer": wanted,
        "sample": wanted,
    }


def test_no_user_at_all_is_what_the_cluster_gives() -> None:
    assert read(run_as_user="none").security == {"runAsUser": None, "runAsGroup": None}


def test_on_the_embedded_cluster_none_of_it_holds() -> None:
    assert read("embedded", envoy_image="a/b:1", cluster_domain="corp.example") == OwnPods()


def test_copies_in_somebody_elses_namespace_go_by_the_runs_name() -> None:
    found = OwnPods(pull_secrets=(PullSecret(name="a"), PullSecret(name="b", namespace="team")))
    assert found.beside("grpclb-7-main-1").secret_names == ("a", "grpclb-7-main-1-pull-b")


RESOURCES = (
    'an object such as {"limits": {"cpu": "1"}}, or such objects by program: driver, envoy, '
    "balancer, sample"
)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "envoy-image",
            "envoy:latest",
            "REPOSITORY:TAG, with a tag other than 'latest', or REPOSITORY@sha256:DIGEST",
        ),
        ("image-pull-secret", "a/b/c", "NAME or NAMESPACE/NAME of a Secret"),
        ("image-pull-secret", "Registry", "NAME or NAMESPACE/NAME of a Secret"),
        (
            "cluster-domain",
            "cluster.local.",
            "a DNS name, such as cluster.local, without a dot at its end",
        ),
        (
            "run-as-user",
            "0",
            "a user's number, 1 or more: the programs need not be root; or none",
        ),
        (
            "run-as-user",
            "root",
            "a user's number, 1 or more: the programs need not be root; or none",
        ),
        ("pod-resources", "{", "JSON: Expecting property name enclosed in double quotes"),
        ("pod-resources", "[]", RESOURCES),
        ("pod-resources", '{"cpu": "1"}', RESOURCES),
        ("pod-resources", '{"driver": {"cpu": "1"}}', RESOURCES),
    ],
)
@pytest.mark.parametrize("cluster", ["kind", "embedded"])
def test_what_cannot_be_used_is_refused(name: str, value: str, expected: str, cluster: str) -> None:
    repeatable = name == "image-pull-secret"
    with pytest.raises(OptionError) as caught:
        read(cluster, **{name: [value] if repeatable else value})
    told = str(caught.value)
    assert told.startswith(f"--grpclb-{name}: {value!r} cannot be used; expected {expected}")
    assert told.endswith(expected) or "column" in told


def test_secrets_whose_copies_would_be_one_are_refused() -> None:
    with pytest.raises(OptionError) as caught:
        read(image_pull_secret=["a/registry", "b/registry"])
    assert str(caught.value) == (
        "--grpclb-image-pull-secret: 'b/registry' cannot be used; expected names that differ: "
        "copies lie in one namespace"
    )
