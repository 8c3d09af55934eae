"""A command in a container of a pod, for what only a file in there tells.

:source: Kubernetes API, ``pods/exec``; apimachinery, ``pkg/util/remotecommand`` (v4.channel.k8s.io)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pytest_grpclb.clusters.kube import PODS
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from pytest_grpclb.clusters.kube import KubeApi

__all__ = ["execute"]

_PROTOCOL = "v4.channel.k8s.io"
_STDOUT, _STDERR, _STATUS = 1, 2, 3
_BINARY_MESSAGE = 2
"""RFC 6455, section 5.2."""
_GOODBYE_S = 1.0


def execute(
    api: KubeApi,
    namespace: str,
    pod: str,
    *command: str,
    container: str = "",
    timeout_s: float = 15.0,
) -> str:
    """Run *command* in a container and return what it writes to its standard output.

    :param container: may be left out where there is but one
    :raises ApiError: if the API refuses that, or the command fails
    :raises ConnectionError: if the connection breaks off or is silent for too long
    """
    from websocket import WebSocketException

    query = [("command", part) for part in command]
    query += [("stdout", "1"), ("stderr", "1"), *([("container", container)] if container else [])]
    path = PODS.path(namespace, pod, "exec")
    tunnel = api.websocket(f"{path}?{urlencode(query)}", _PROTOCOL, timeout_s=timeout_s)
    told = {_STDOUT: b"", _STDERR: b"", _STATUS: b""}
    try:
        tunnel.settimeout(timeout_s)
        while True:
            kind, message = tunnel.recv_data()
            if kind != _BINARY_MESSAGE:
                break  # the API closes it
            if message and message[0] in told:
                told[message[0]] += message[1:]
    except (OSError, WebSocketException) as error:
        raise ConnectionError(str(error)) from error
    finally:
        tunnel.close(timeout=_GOODBYE_S)
        tunnel.shutdown()
    status = json.loads(told[_STATUS] or b"{}")
    if status.get("status") == "Failure":
        said = told[_STDERR].decode(errors="replace").strip()
        message = said or str(status.get("message", ""))
        raise ApiError("GET", path, status=500, message=message)
    return told[_STDOUT].decode(errors="replace")
