"""The protobuf form that client-go sends, decoded: what Go encoded, byte for byte."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.api.decoding import decode
from pytest_grpclb.clusters.embedded.api.protobuf import parse_protobuf
from pytest_grpclb.clusters.embedded.store.status import BadRequestError

# Made by the protobuf serializer of k8s.io/apimachinery v0.34.1.
DEPLOYMENT = (
    "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50EvsCChsKA3dlYhIAGgAiACoAMgA4AEIICMDd98sGEAASxAIIABII"
    "CgYKAWESAWIaiwIKGAoAEgAaACIAKgAyADgAQgBaBgoBYRIBYhLuAQoJCgF2EgQSAgoAChYKAXcSEZoBDgoECgJj"
    "bRIGCgFrEgFwEqcBCgFjEgFpKgAyCgoAEAAYUCIAKgA6BQoBQRIAOhMKAVASABoMIgoKAwoBcxIBaxgAQiAKDQoD"
    "Y3B1EgYKBDUwMG0KDwoGbWVtb3J5EgUKAzFHaVIrChYSFAoCL3gSCggBEAAaBGh0dHAaACIAEP///////////wEY"
    "ACAAKAAwAFoSCgYiBAhQEgAQABgAIAMoADAAagByAHoCIACAAQCIAQCQAQCiAQAaACAAMgBCAEoAUgBYAGAAaACC"
    "AQCKAQCaAQCoAQDCAQAiJAoNUm9sbGluZ1VwZGF0ZRITCgYIABABGgASCQgBEAAaAzI1JSgAOAAaFQj7////////"
    "//8BEAAYACAAKAA4ABoAIgA="
)
LEASE = (
    "azhzAAofChZjb29yZGluYXRpb24uazhzLmlvL3YxEgVMZWFzZRIyChEKAWwSABoAIgAqADIAOABCABIdCgJtZRAP"
    "GgsIwN33ywYQgJTvOiIICMDd98sGEAAaACIA"
)
EVENT = (
    "azhzAAoLCgJ2MRIFRXZlbnQSdgo9CgJldhIAGgAiACoAMgA4AEIAigEoCgFtEgZVcGRhdGUaADIIRmllbGRzVjE6"
    "DQoLeyJmOmEiOiB7fX1CABISCgNQb2QSABoBcCIAKgAyADoAGgFSIgAqBAoAEgAyADoICMDd98sGEABAA0oAUgBi"
    "AHIAegAaACIA"
)


def test_a_deployment_as_go_encodes_it() -> None:
    parsed = parse_protobuf(base64.b64decode(DEPLOYMENT))
    clean, unknown = decode(parsed, "Deployment")
    assert unknown == []
    assert clean == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "creationTimestamp": "2026-01-31T12:00:00Z"},
        "spec": {
            "replicas": 0,  # a pointer in Go: 0 is a value
            "selector": {"matchLabels": {"a": "b"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1},
            },
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 0,
                    "containers": [
                        {
                            "name": "c",
                            "image": "i",
                            "env": [
                                {"name": "A"},
                                {
                                    "name": "P",
                                    "valueFrom": {
                                        "secretKeyRef": {"name": "s", "key": "k", "optional": False}
                                    },
                                },
                            ],
                            "ports": [{"containerPort": 80}],  # hostPort 0 is no value
                            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                            "readinessProbe": {
                                "grpc": {"port": 80, "service": ""},
                                "periodSeconds": 3,
                            },
                            "livenessProbe": {
                                "httpGet": {"path": "/x", "port": "http"},
                                "initialDelaySeconds": -1,
                            },
                            "securityContext": {"runAsUser": 0},
                        }
                    ],
                    "volumes": [
                        {"name": "v", "emptyDir": {}},
                        {
                            "name": "w",
                            "configMap": {"name": "cm", "items": [{"key": "k", "path": "p"}]},
                        },
                    ],
                },
            },
        },
        "status": {"observedGeneration": -5},
    }


def test_moments_with_and_without_microseconds() -> None:
    spec = parse_protobuf(base64.b64decode(LEASE))["spec"]
    assert spec["acquireTime"] == "2026-01-31T12:00:00.123456Z"
    assert spec["renewTime"] == "2026-01-31T12:00:00.000000Z"
    event = parse_protobuf(base64.b64decode(EVENT))
    assert event["lastTimestamp"] == "2026-01-31T12:00:00Z"
    assert "eventTime" not in event
    assert event["metadata"]["managedFields"][0]["fieldsV1"] == {"f:a": {}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "the body of the request does not begin as Kubernetes protobuf does"),
        (
            b"k8s\x00\x0a\xff",
            "the body of the request cannot be read as Kubernetes protobuf: "
            "IndexError('index out of range')",
        ),
        (
            b"k8s\x00\x0a\x0a\x0a\x02v1\x12\x04Cart",
            "the body of the request cannot be read as Kubernetes protobuf: KeyError('Cart')",
        ),
        (
            b"k8s\x00\x0b",
            "the body of the request cannot be read as Kubernetes protobuf: "
            "ValueError('wire type 3')",
        ),
    ],
)
def test_what_cannot_be_read(body: bytes, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse_protobuf(body)
    assert str(caught.value) == message


@given(st.integers(0, len(base64.b64decode(DEPLOYMENT)) - 1), st.integers(0, 255))
def test_a_damaged_body_is_an_object_or_refused_and_nothing_else(position: int, byte: int) -> None:
    body = bytearray(base64.b64decode(DEPLOYMENT))
    body[position] = byte
    try:
        parsed = parse_protobuf(bytes(body))
    except BadRequestError:
        return
    assert isinstance(parsed, dict)
