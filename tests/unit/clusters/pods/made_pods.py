"""Pods and events as the API tells of them, for tests of what is said of pods."""

from __future__ import annotations

from typing import Any


def pod(*, ready: bool = False, **status: Any) -> dict[str, Any]:
    container = {"name": "main", "ready": ready, **status}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"uid": "u", "name": "p"},
        "status": {"conditions": conditions, "containerStatuses": [container]},
    }


def event(message: str, *, reason: str = "Unhealthy", uid: str = "u") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"uid": uid}}


def ended(code: int, restarts: int, **more: Any) -> dict[str, Any]:
    return pod(lastState={"terminated": {"exitCode": code, **more}}, restartCount=restarts)


UNIMPLEMENTED = "Startup probe failed: this server does not implement the grpc health protocol"
PLACE = "10.0.0.1:50051"
REFUSED = f"Startup probe failed: dial tcp {PLACE}: connect: connection refused"
UNCONNECTED = (
    f'Startup probe failed: timeout: failed to connect service "{PLACE}" within 1s: '
    "context deadline exceeded"
)
NOT_SERVING = 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'
SAY_WHERE = (
    "say where the service listens with --grpclb-service-port, or raise --grpclb-ready-timeout if "
    "it starts slowly"
)
