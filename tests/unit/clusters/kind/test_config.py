from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.kind.config import (
    IMAGE_FOR_CGROUP_V1,
    NODE_IMAGE,
    merged,
    needs_cgroup_v2,
)
from pytest_grpclb.errors import OptionError

HEAD = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}


def mapping(port: int) -> dict[str, Any]:
    return {
        "containerPort": port,
        "hostPort": 0,
        "listenAddress": "127.0.0.1",
        "protocol": "TCP",
    }


def test_without_a_file_of_the_user_there_is_one_labelled_node_with_three_ports() -> None:
    assert merged(None) == {
        **HEAD,
        "nodes": [
            {
                "role": "control-plane",
                "image": NODE_IMAGE,
                "labels": {"ingress-ready": "true"},
                "extraPortMappings": [mapping(80), mapping(443), mapping(30052)],
            }
        ],
    }


def test_the_node_image_is_pinned_by_digest_to_what_ingress_nginx_supports() -> None:
    name, _, digest = NODE_IMAGE.partition("@sha256:")
    assert name == "kindest/node:v1.35.0"
    assert len(digest) == 64


def test_what_the_user_says_wins_and_stays() -> None:
    user = {
        "networking": {"ipFamily": "ipv6"},
        "nodes": [
            {"role": "worker", "image": "mine:1"},
            {
                "role": "control-plane",
                "labels": {"ingress-ready": "false", "tier": "1"},
                "extraPortMappings": [{"containerPort": 80, "hostPort": 8080}],
            },
        ],
    }
    found = merged(user)
    assert found["networking"] == {"ipFamily": "ipv6"}
    worker, plane = found["nodes"]
    assert worker == {"role": "worker", "image": "mine:1"}
    assert plane == {
        "role": "control-plane",
        "image": NODE_IMAGE,
        "labels": {"ingress-ready": "false", "tier": "1"},
        "extraPortMappings": [
            {"containerPort": 80, "hostPort": 8080},
            mapping(443),
            mapping(30052),
        ],
    }
    assert "apiVersion" not in user  # what was given is not changed


def test_an_image_that_was_asked_for_is_every_nodes() -> None:
    found = merged({"nodes": [{"image": "mine:1"}, {"role": "worker"}]}, image="asked:2")
    assert [node["image"] for node in found["nodes"]] == ["asked:2", "asked:2"]


@pytest.mark.parametrize(
    ("images", "needing"),
    [
        (["kindest/node:v1.36.1@sha256:1"], "kindest/node:v1.36.1@sha256:1"),
        ([IMAGE_FOR_CGROUP_V1, "mirror:5000/node:v1.35.2"], "mirror:5000/node:v1.35.2"),
        ([IMAGE_FOR_CGROUP_V1, "mine:1", "kindest/node:v1.9.0"], ""),
    ],
)
def test_nodes_that_need_newer_control_groups_are_known_by_their_tags(
    images: list[str], needing: str
) -> None:
    assert needs_cgroup_v2(merged({"nodes": [{"image": each} for each in images]})) == needing
    assert needs_cgroup_v2(merged(None)) == NODE_IMAGE


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"kind": "Deployment"}, "kind: Cluster in it"),
        ({"apiVersion": "v1"}, "apiVersion: kind.x-k8s.io/v1alpha4 in it"),
        ({"nodes": "many"}, "a list of nodes under 'nodes'"),
        ({"nodes": ["one"]}, "a list of nodes under 'nodes'"),
        ({"nodes": [{"role": "worker"}]}, "a node with the role 'control-plane'"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(user: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionError) as caught:
        merged(user, source="kind.yaml")
    assert str(caught.value) == (
        f"--grpclb-kind-config: 'kind.yaml' cannot be used; expected {expected}"
    )
