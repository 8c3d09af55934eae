"""Fields and types of what clients send."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.api.decoding import decode, missing_fields
from pytest_grpclb.clusters.embedded.api.types import _lines, fields, message_fields
from pytest_grpclb.clusters.embedded.store.kinds import KINDS
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, Cause


def test_fields_that_the_kind_does_not_have_are_left_out_and_named() -> None:
    clean, unknown = decode(
        {
            "kind": "Deployment",
            "spec": {
                "replcas": 3,
                "template": {"spec": {"containers": [{"name": "c", "comand": ["x"]}]}},
            },
        },
        "Deployment",
    )
    assert clean == {
        "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
    }
    assert unknown == ["spec.replcas", "spec.template.spec.containers[0].comand"]


def test_null_and_what_means_nothing_are_left_out() -> None:
    clean, _ = decode(
        {
            "metadata": {"name": "a", "creationTimestamp": None, "labels": {"x": None, "y": ""}},
            "spec": {
                "nodeName": "",
                "hostNetwork": False,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 0}]}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
        },
        "Pod",
    )
    assert clean == {
        "metadata": {"name": "a", "labels": {"y": ""}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "ports": [{"containerPort": 1}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }


def test_fields_of_inlined_types_stand_in_their_place() -> None:
    probe = {"grpc": {"port": 1}, "periodSeconds": 2}
    clean, unknown = decode({"spec": {"containers": [{"livenessProbe": probe}]}}, "Pod")
    assert clean["spec"]["containers"][0]["livenessProbe"] == probe
    assert unknown == []


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"replicas": "3"}, 'spec.replicas must be an integer, not "3"'),
        ({"replicas": True}, "spec.replicas must be an integer, not true"),
        ({"replicas": 1.5}, "spec.replicas must be an integer, not 1.5"),
        ({"paused": "yes"}, 'spec.paused must be true or false, not "yes"'),
        ({"selector": []}, "spec.selector must be an object, not []"),
        (
            {"selector": {"matchLabels": {"a": 1}}},
            "spec.selector.matchLabels.a must be text, not 1",
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": []}}},
            "spec.strategy.rollingUpdate.maxSurge must be text or integer, not []",
        ),
        (
            {"template": {"spec": {"containers": {}}}},
            "spec.template.spec.containers must be a list, not {}",
        ),
        (
            {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": True}}}]}}},
            "spec.template.spec.containers[0].resources.limits.cpu must be a quantity such as 500m "
            "or 1Gi, not true",
        ),
        (
            {"template": {"metadata": {"creationTimestamp": "now"}}},
            "spec.template.metadata.creationTimestamp must be a time such as "
            '2026-01-31T12:00:00Z, not "now"',
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(spec: Any, complaint: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        decode({"apiVersion": "apps/v1", "spec": spec}, "Deployment")
    assert str(caught.value) == (
        f'Deployment in version "apps/v1" cannot be handled as a Deployment: {complaint}'
    )


def test_secret_data_must_be_base64() -> None:
    assert decode({"data": {"a": "YQ=="}}, "Secret")[0] == {"data": {"a": "YQ=="}}
    with pytest.raises(BadRequestError) as caught:
        decode({"data": {"a": "not base64!"}}, "Secret")
    assert str(caught.value) == (
        'Secret in version "v1" cannot be handled as a Secret: data.a must be text in base64, not '
        '"not base64!"'
    )


def test_what_is_no_object_at_all_is_refused() -> None:
    with pytest.raises(BadRequestError) as caught:
        decode([1], "Pod")
    assert str(caught.value) == (
        'Pod in version "v1" cannot be handled as a Pod: it must be an object, not [1]'
    )


def test_what_must_be_given_is_missed() -> None:
    pod = {
        "metadata": {"name": "a"},
        "spec": {
            "containers": [
                {
                    "name": "",
                    "env": [{"value": "1"}],
                    "ports": [{}],
                    "livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"value": ""}]}},
                }
            ]
        },
        "status": {"conditions": [{}]},
    }
    where = "spec.containers[0]"
    assert missing_fields(pod, "Pod") == [
        Cause(f"{where}.name", "Required value", "FieldValueRequired"),
        Cause(f"{where}.ports[0].containerPort", "Required value", "FieldValueRequired"),
        Cause(f"{where}.env[0].name", "Required value", "FieldValueRequired"),
        Cause(
            f"{where}.livenessProbe.httpGet.httpHeaders[0].name",
            "Required value",
            "FieldValueRequired",
        ),
    ]


def test_every_type_that_is_named_is_described() -> None:
    simple = {"any", "boolean", "bytes", "int-or-string", "integer", "micro-time"} | {
        "quantity",
        "string",
        "time",
    }
    for name in _lines():
        for field in fields(name).values():
            inner = field.type.strip("[]{}")
            assert inner in simple or inner in _lines(), (name, field)
        assert len(message_fields(name)) > 0 or name == "SleepAction", name
    assert {kind.kind for kind in KINDS.values()} <= _lines().keys()
