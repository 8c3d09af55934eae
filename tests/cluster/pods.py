"""The pods of one test, and what is asked of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import EVENTS, PODS, KubeApi

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 20.0


class Pods:
    """The pods of one test."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def create(self, name: str, *containers: dict[str, Any], **spec: Any) -> None:
        named = [{"name": f"c{number}", **each} for number, each in enumerate(containers)]
        body = {"metadata": {"name": name}, "spec": {"containers": named, **spec}}
        self.api.request("POST", PODS.path(self.namespace), body=body)

    def get(self, name: str) -> dict[str, Any]:
        return self.api.get(PODS, self.namespace, name)

    def until(self, name: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition(pod := self.get(name)):
            assert time.monotonic() < deadline_s, pod["status"]
            time.sleep(0.01)
        return pod

    def until_gone(self, name: str) -> float:
        """Return how many seconds it took."""
        began_s = time.monotonic()
        while name in {pod["metadata"]["name"] for pod in self.api.list(PODS, self.namespace)}:
            assert time.monotonic() < began_s + TIMEOUT_S
            time.sleep(0.01)
        return time.monotonic() - began_s

    def until_ready(self, name: str) -> dict[str, Any]:
        return self.until(name, is_ready)

    def until_ended(self, name: str) -> dict[str, Any]:
        return self.until(name, lambda pod: phase(pod) in {"Succeeded", "Failed"})

    def logs(self, name: str, container: str = "") -> str:
        return self.api.logs(self.namespace, name, container=container)

    def events(self, name: str) -> list[tuple[str, str]]:
        return [
            (event["reason"], event["message"])
            for event in self.api.list(EVENTS, self.namespace)
            if event["involvedObject"]["name"] == name
        ]


def phase(pod: dict[str, Any]) -> str:
    return str(pod["status"]["phase"])


def is_ready(pod: dict[str, Any]) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in pod["status"].get("conditions", ())
    )


def container(pod: dict[str, Any], number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = pod["status"]["containerStatuses"][number]
    return found


def waits_for(reason: str, number: int = 0) -> Callable[[dict[str, Any]], bool]:
    def check(pod: dict[str, Any]) -> bool:
        statuses = pod["status"].get("containerStatuses")
        return bool(statuses) and (
            statuses[number]["state"].get("waiting", {}).get("reason") == reason
        )

    return check


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"image": "shell", "args": ["-c", script], **more}


def greeter(**more: Any) -> dict[str, Any]:
    args = ["greeter", "--port=50051"]
    return {"image": "pytest-grpclb", "args": args, "ports": [{"containerPort": 50051}], **more}
