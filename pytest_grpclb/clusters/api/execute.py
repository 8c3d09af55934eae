"""A command in a container of a pod, for what only a file in there tells.

:source: Kubernetes API, ``pods/exec``; apimachinery, ``pkg/util/remotecommand`` (v4.channel.k8s.io)
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pytest_grpclb.clusters.api.kube import PODS
from pytest_grpclb.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb.clusters.api.kube import KubeApi

__all__ = ["OUTPUT_LIMIT", "execute"]

_PROTOCOL = "v4.channel.k8s.io"
"""Every API knows it. Its successor, v5, only adds how to close the standard input: there is none.
"""
_STDOUT, _STDERR, _STATUS = 1, 2, 3
_TEXT, _BINARY, _CLOSE = 1, 2, 8
"""RFC 6455, section 5.2."""
OUTPUT_LIMIT = 1 << 26
"""Far above any configuration; below what a command without an end would make this process keep."""
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
    :param timeout_s: for all of it
    :raises ApiError: if the API refuses that
    :raises CommandError: if the command fails, cannot be started, or has no end in time
    :raises ConnectionError: if the connection breaks off before the end of the command is told
    """
    query = [("command", part) for part in command]
    query += [("stdout", "1"), ("stderr", "1"), *([("container", container)] if container else [])]
    path = PODS.path(namespace, pod, "exec")
    deadline_s = time.monotonic() + timeout_s
    where = f"in container {container!r} of pod {pod!r}" if container else f"in pod {pod!r}"
    tunnel = api.websocket(f"{path}?{urlencode(query)}", _PROTOCOL, timeout_s=timeout_s)
    try:
        told = _told(tunnel, deadline_s)
        status = _status(bytes(told[_STATUS]))
    except TimeoutError as error:
        what = f"{where} had not ended after {timeout_s:g} s"
        raise CommandError(command, what=what) from error
    except OverflowError as error:
        what = f"{where} has written more than {OUTPUT_LIMIT >> 20} MiB"
        raise CommandError(command, what=what) from error
    except ConnectionError as error:
        what = f"{where}: the connection broke off before its end was told: {error}"
        raise ConnectionError(str(CommandError(command, what=what))) from error
    finally:
        tunnel.close(timeout=_GOODBYE_S)
        tunnel.shutdown()
    if status.get("status") != "Success":
        said = told[_STDERR].decode(errors="replace").strip()
        raise _failure(command, where, status, said)
    return told[_STDOUT].decode(errors="replace")


def _told(tunnel: Any, deadline_s: float) -> dict[int, bytearray]:
    """Return what came on each channel until the API has told how the command ended.

    :raises TimeoutError: if that takes too long
    :raises OverflowError: if there is too much of it
    :raises ConnectionError: if the connection breaks off before
    """
    from websocket import WebSocketException, WebSocketTimeoutException

    told = {channel: bytearray() for channel in (_STDOUT, _STDERR, _STATUS)}
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        try:
            tunnel.settimeout(left_s)
            kind, frame = tunnel.recv_data_frame(control_frame=True)
        except (TimeoutError, WebSocketTimeoutException) as error:
            raise TimeoutError from error
        except (OSError, WebSocketException, ValueError) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        message = frame.data
        if kind == _CLOSE:
            if told[_STATUS]:
                return told
            code, reason = int.from_bytes(message[:2]), message[2:].decode(errors="replace")
            raise ConnectionError(f"closed with code {code}: {reason}".rstrip(": "))
        if kind == _TEXT:
            raise ConnectionError("a text message")
        if kind == _BINARY and message and message[0] in told:
            told[message[0]] += message[1:]
            if sum(map(len, told.values())) > OUTPUT_LIMIT:
                raise OverflowError


def _status(text: bytes) -> dict[str, Any]:
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        shown = text[:200].decode(errors="replace")
        raise ConnectionError(f"its status is no JSON object: {shown!r}")
    return status


def _failure(command: Sequence[str], where: str, status: dict[str, Any], said: str) -> CommandError:
    """Return the error of a command that did not end well.

    :source: apimachinery, ``pkg/util/remotecommand``, ``NonZeroExitCodeReason``
    """
    causes = (status.get("details") or {}).get("causes") or ()
    codes = [each.get("message") for each in causes if each.get("reason") == "ExitCode"]
    if codes:
        what = f"{where} ended with exit code {codes[0]}"
    else:
        what = f"{where} cannot be run: {status.get('message') or 'no reason was told'}"
    return CommandError(command, what=what, output=said)
