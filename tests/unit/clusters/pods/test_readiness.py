from __future__ import annotations

from typing import Any

from pytest_grpclb.clusters.pods.readiness import with_gate


def test_every_deployment_gets_the_gate_and_nothing_else_changes() -> None:
    service = {"kind": "Service", "spec": {"type": "ClusterIP"}}
    pod: dict[str, Any] = {"containers": [], "readinessGates": [{"conditionType": "a/own"}]}
    template = {"metadata": {"labels": {"app": "shop"}}, "spec": pod}
    deployment = {"kind": "Deployment", "spec": {"replicas": 2, "template": template}}
    gates = [{"conditionType": "a/own"}, {"conditionType": "pytest-grpclb/serving"}]
    assert with_gate([service, deployment]) == [
        service,
        {
            "kind": "Deployment",
            "spec": {
                "replicas": 2,
                "template": {**template, "spec": {**pod, "readinessGates": gates}},
            },
        },
    ]
    assert pod["readinessGates"] == gates[:1]  # what was given is left as it was
