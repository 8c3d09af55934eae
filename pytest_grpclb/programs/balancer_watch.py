"""Follows the EndpointSlices of a Service through the Kubernetes API, as its service account may.

A list tells the state and its version; a watch from that version tells every change after it. A
watch that breaks is taken up at the last version seen, so nothing is missed while the API is away.
If the API no longer has the changes since then (410 Gone), the state is listed anew.

:source: Kubernetes documentation, "Efficient detection of changes", "Accessing the Kubernetes API
    from a Pod"
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pytest_grpclb.programs.balancer_endpoints import SERVICE_LABEL, Endpoints, Server
from pytest_grpclb.programs.serving import MISUSED, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
SERVICE_ACCOUNT_DIRECTORY = "GRPCLB_SERVICEACCOUNT_DIR"
"""Where those files are if not in their usual place: processes of one machine share its paths."""

# The API ends a watch after this time, and it is taken up anew: a fifth less at random, so that the
# balancers of a cluster do not all come at once.
_WATCH_S = 300
# One that ends sooner, though in good order, is a sign of trouble.
_SHORT_S = 1.0
# No answer begins later than this. While a watch is silent the kernel's probes notice a lost peer.
_ANSWER_S = 30.0
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class RefusedError(Exception):
    """The API answered with an error; what it says, and what to do about it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _BrokenError(Exception):
    """An answer did not come, or broke off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where the API is, and who this pod is there."""

    host: str
    port: int
    directory: Path

    @classmethod
    def from_environment(cls) -> Account:
        """Return what Kubernetes gives to a pod.

        :raises ProgramError: if this pod was given nothing, or no service account
        """
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not (host and port.isascii() and port.isdigit()):
            raise ProgramError(
                f"KUBERNETES_SERVICE_HOST={host!r} and KUBERNETES_SERVICE_PORT={port!r} cannot be "
                "used; expected the address of the Kubernetes API: the balancer runs in a pod",
                exit_code=MISUSED,
            )
        directory = Path(os.environ.get(SERVICE_ACCOUNT_DIRECTORY) or SERVICE_ACCOUNT)
        for name in ("token", "ca.crt"):
            if not (directory / name).is_file():
                raise ProgramError(
                    f"{directory / name} is not there; expected the files of the pod's service "
                    "account: set automountServiceAccountToken: true in the pod's spec",
                    exit_code=MISUSED,
                )
        return cls(host=host, port=int(port), directory=directory)

    def namespace(self) -> str:
        """Return the namespace of this pod; empty if it is not told."""
        try:
            return (self.directory / "namespace").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def token(self) -> str:
        """Return the token, read anew each time: Kubernetes replaces it every hour."""
        return (self.directory / "token").read_text(encoding="ascii").strip()

    def connection(self) -> http.client.HTTPSConnection:
        """Return a connection that trusts the cluster's own certificate authority, and no other."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        return http.client.HTTPSConnection(self.host, self.port, timeout=_ANSWER_S, context=context)


class EndpointWatch:
    """Follows one Service's EndpointSlices in a thread of its own, for as long as the process runs.

    :param publish: told in that thread: the servers, first when all are known and the watch
        stands, then whenever they change
    """

    def __init__(
        self,
        account: Account,
        *,
        namespace: str,
        service: str,
        port_name: str,
        publish: Callable[[tuple[Server, ...]], None],
    ) -> None:
        self._account, self._publish = account, publish
        self._namespace = namespace
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._selector = f"{SERVICE_LABEL}={service}"
        self._endpoints = Endpoints(port_name)
        self._published: tuple[Server, ...] | None = None
        self._version = ""
        self._connection: http.client.HTTPSConnection | None = None
        self._failures = 0
        self._stopping = threading.Event()
        # Its read from the API cannot be interrupted: it must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="endpoint-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Publish nothing more, from the next event on."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
            except RefusedError as refusal:
                # Whatever it is that the API does not like, a list is the way to begin anew.
                self._version = ""
                if refusal.status == http.client.GONE:
                    _LOG.info("changes since the last version are gone; listing anew")
                    if not self._failures:
                        self._failures = 1
                        continue
                self._back_off(f"the API refuses: {refusal}")
            except (_BrokenError, OSError, http.client.HTTPException) as error:
                self._back_off(f"the API cannot be reached: {error or type(error).__name__}")
            except Exception as error:  # noqa: BLE001 - to follow no longer, unseen, would be worse
                self._version = ""
                self._back_off(f"the API says what cannot be read: {error!r}")
            finally:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None

    def _back_off(self, reason: str) -> None:
        """Wait: half of a time that doubles with every failure, and up to as much again."""
        longest_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._failures, 32), _LONGEST_PAUSE_S)
        # Not a secret: it keeps balancers that lost the same API from coming back at once.
        pause_s = longest_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._failures += 1
        _LOG.warning("%s; trying again in %.1f s", reason, pause_s)
        self._stopping.wait(pause_s)

    # --- requests

    def _list(self) -> None:
        with self._open({}) as answer:
            listed = json.loads(answer.read())
        self._endpoints.replace(listed["items"])
        self._version = listed["metadata"]["resourceVersion"]

    def _watch(self) -> None:
        """Follow the changes from the last version seen until the API ends the watch."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(round(_WATCH_S * random.uniform(0.8, 1.0))),  # noqa: S311
        }
        began_s = time.monotonic()
        with self._open(query) as answer:
            # What the list said counts only now: one who may list but not watch goes stale at once.
            self._tell()
            for event in _events(answer):
                self._take(event)
                if self._stopping.is_set():
                    return
        if time.monotonic() - began_s < _SHORT_S:
            raise _BrokenError("the API ended the watch at once")
        self._failures = 0

    def _take(self, event: dict[str, Any]) -> None:
        change, obj = event["type"], event["object"]
        if change == "ERROR":
            raise RefusedError(obj.get("code", 0), obj.get("message", "an error without a message"))
        if change != "BOOKMARK":
            self._endpoints.take(change, obj)
            self._tell()
        self._version = obj["metadata"]["resourceVersion"]
        self._failures = 0

    def _tell(self) -> None:
        servers = self._endpoints.servers()
        if servers != self._published:
            self._published = servers
            self._publish(servers)

    def _open(self, query: dict[str, str]) -> http.client.HTTPResponse:
        """Send a GET and return its answer, which has begun well.

        :raises RefusedError: if it is an error
        """
        verb = "watch" if query else "list"
        connection = self._connection
        if connection is None or connection.sock is None:
            connection = self._connection = self._account.connection()
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE:
                if hasattr(socket, name):
                    connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock = connection.sock
        connection.request(
            "GET",
            f"{self._path}?{urlencode({'labelSelector': self._selector, **query})}",
            headers={
                "Accept": "application/json",
                "Authorization": f"Bearer {self._account.token()}",
                "User-Agent": "pytest-grpclb-balancer",
            },
        )
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            with answer:
                raise RefusedError(answer.status, self._explained(verb, answer))
        if query:
            sock.settimeout(None)
        return answer

    def _explained(self, verb: str, answer: http.client.HTTPResponse) -> str:
        body = answer.read()
        try:
            told = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            told = f"{answer.status} {answer.reason}"
        if answer.status == http.client.FORBIDDEN:
            return (
                f"{told}; the balancer's service account lacks the verb {verb!r}: bind it to a "
                f"Role in the namespace {self._namespace!r} with the verbs get, list and watch on "
                "endpointslices of the API group discovery.k8s.io "
                "(the chart does so with balancer.rbac.create=true)"
            )
        return told


def _events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the events of a watch, one JSON object a line, until the API ends it in good order.

    :raises _BrokenError: if it breaks off
    """
    rest = b""
    try:
        while piece := answer.read1(65536):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (json.loads(line) for line in lines if line)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _BrokenError(f"the watch broke off: {error or type(error).__name__}") from error
    if rest:
        raise _BrokenError("the watch broke off amid an event")
