"""The Kubernetes API as plain JSON, on the kubernetes client's configuration and connections.

The typed models of the client are left out on purpose: manifests come from charts as mappings and
go to the API as such, and a field that the installed client does not know is not lost on the way.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pytest_grpclb.clusters.api.connecting import configured, prepare, websocket_on
from pytest_grpclb.clusters.api.credentials import credential_plugin, overheard
from pytest_grpclb.clusters.api.streaming import ResponseStream
from pytest_grpclb.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["KubeApi", "Resource"]

FIELD_MANAGER = "pytest-grpclb"
_ATTEMPTS = 5
"""Tries of a request that may be repeated: with the pauses below, 1.5 s of an absent API."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_PASSING = frozenset({429, 500, 502, 503, 504})
_SHOWN_BYTES = 100
"""Of a body that cannot be read."""

Json = dict[str, Any]


class Resource:
    """Where the objects of one kind live in the API."""

    __slots__ = ("namespaced", "plural", "prefix")

    def __init__(self, api_version: str, plural: str, *, namespaced: bool) -> None:
        self.prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        self.plural, self.namespaced = plural, namespaced

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, an object or its subresource."""
        parts = [self.prefix]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{quote(namespace)}")
        parts.append(self.plural)
        parts.extend(quote(part) for part in (name, subresource) if part)
        return "/".join(parts)


PODS = Resource("v1", "pods", namespaced=True)
NAMESPACES = Resource("v1", "namespaces", namespaced=False)
EVENTS = Resource("v1", "events", namespaced=True)
SERVICES = Resource("v1", "services", namespaced=True)
DEPLOYMENTS = Resource("apps/v1", "deployments", namespaced=True)
REPLICASETS = Resource("apps/v1", "replicasets", namespaced=True)
STATEFULSETS = Resource("apps/v1", "statefulsets", namespaced=True)


class KubeApi:
    """One connection pool to one cluster's API; safe to use from several threads."""

    credential_failure = ""
    """Why it has no credentials, though the kubeconfig names a program that gives some."""
    _plugin = None

    def __init__(self, kubeconfig: Path, context: str, *, scratch: Path | None = None) -> None:
        """Read the kubeconfig; nothing is sent yet.

        :param scratch: where the kubernetes client writes certificates that the file holds inline;
            by default in the system's temporary folder, where a killed process leaves them behind
        """
        from kubernetes import config

        def load(configuration: Any) -> None:
            config.load_kube_config(
                str(kubeconfig),
                context=context,
                client_configuration=configuration,
                persist_config=False,
                temp_file_path=None if scratch is None else str(scratch),
            )

        with overheard() as heard:
            self._use(configured(load))
        self._plugin = credential_plugin(kubeconfig, context)
        if self._plugin and not (self._configuration.api_key or self._configuration.cert_file):
            self.credential_failure = self._plugin.failure(" ".join(heard))

    def without_credentials(self) -> KubeApi:
        """Return a connection to the same API that says nothing of who asks."""
        from kubernetes import client

        stranger = KubeApi.__new__(KubeApi)
        ours, theirs = self._configuration, client.Configuration()
        for name in ("host", "ssl_ca_cert", "verify_ssl", "tls_server_name", "proxy"):
            setattr(theirs, name, getattr(ours, name, None))  # old clients have fewer
        stranger._use(theirs)
        return stranger

    def _use(self, configuration: Any) -> None:
        from kubernetes import client

        self._configuration = configuration
        self._client = client.ApiClient(configuration)
        self._pool = self._client.rest_client.pool_manager
        prepare(self._pool, verified=configuration.verify_ssl)
        self._resources: dict[tuple[str, str], Resource] = {}

    @property
    def server(self) -> str:
        """Where the API is: a URL."""
        return str(self._configuration.host)

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.clear()
        self._client.close()

    # --- requests

    def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
        repeatable: bool | None = None,
    ) -> Json:
        """Send one request and return the JSON object of its answer.

        A request that may be repeated (GET, PUT and DELETE unless said otherwise) is, when the
        connection breaks or the API says that it is overloaded or away.

        :raises ApiError: if the API refuses it, or stays away; ``status`` 0 means no answer
        :source: Kubernetes API conventions, "Response Status Kind"
        """
        if repeatable is None:
            repeatable = verb in {"GET", "PUT", "DELETE"}
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, _ATTEMPTS + 1):
            last = not repeatable or attempt == _ATTEMPTS
            try:
                response = self._open(verb, path, query, body, content_type, timeout_s)
            except OSError as error:  # urllib3's own errors are no OSErrors: _open translates them
                if last:
                    raise ApiError(verb, path, status=0, message=str(error)) from error
            else:
                text = response.data
                if response.status < 400:
                    return _object(verb, path, response.status, text)
                if response.status not in _PASSING or last:
                    raise self._refusal(verb, path, response.status, text)
                pause_s = max(pause_s, _retry_after_s(response.headers))
            time.sleep(min(pause_s, _LONGEST_PAUSE_S))
            pause_s *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _open(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        timeout_s: float,
        *,
        stream: bool = False,
    ) -> Any:
        from urllib3.exceptions import HTTPError

        headers = self._headers() | {"Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body).encode()
        url = self._configuration.host + path
        if query:
            url += "?" + urlencode(query)
        try:
            return self._pool.request(
                verb,
                url,
                body=data,
                headers=headers,
                timeout=timeout_s,
                retries=False,  # by urllib3 itself
                preload_content=not stream,
            )
        except HTTPError as error:
            raise ConnectionError(str(error)) from error

    def _refusal(self, verb: str, path: str, status: int, body: bytes) -> ApiError:
        try:
            told = json.loads(body)
            reason, message = str(told.get("reason", "")), str(told.get("message", ""))
        except (ValueError, AttributeError):
            reason, message = "", body[:500].decode(errors="replace")
        if self._plugin is not None:
            message = self._plugin.explain(status, message, self.credential_failure)
        return ApiError(verb, path, status=status, reason=reason, message=message)

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": FIELD_MANAGER}
        for setting in self._configuration.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        return headers

    def stream(
        self, path: str, *, query: Mapping[str, str], timeout_s: float = 30.0
    ) -> ResponseStream:
        """Open a GET whose body arrives bit by bit: a watch, or a log that is followed.

        :param timeout_s: longest silence between two pieces
        :raises ApiError: if the API refuses it or cannot be reached
        """
        try:
            response = self._open("GET", path, query, None, "", timeout_s, stream=True)
        except OSError as error:
            raise ApiError("GET", path, status=0, message=str(error)) from error
        if response.status >= 400:
            raise self._refusal("GET", path, response.status, response.read())
        return ResponseStream(response)

    def websocket(self, path: str, subprotocol: str, *, timeout_s: float = 30.0) -> Any:
        """Open a websocket, on a connection of its own, that carries a pod's streams.

        :param path: with its query
        :param timeout_s: for connecting; the websocket itself waits as long as it is told to
        :raises ApiError: if the API refuses it or cannot be reached
        """
        from websocket import WebSocketBadStatusException, WebSocketException

        try:
            return websocket_on(
                self._configuration,
                self._pool,
                path,
                headers=self._headers(),
                subprotocol=subprotocol,
                timeout_s=timeout_s,
            )
        except WebSocketBadStatusException as error:
            told = getattr(error, "resp_body", None) or b""
            raise self._refusal("GET", path, error.status_code, told) from error
        except (OSError, WebSocketException) as error:
            raise ApiError("GET", path, status=0, message=str(error)) from error

    # --- objects

    def resource(self, api_version: str, kind: str) -> Resource:
        """Return where objects of *kind* live, as the API's discovery tells.

        :raises ApiError: if the API does not serve that kind (status 404)
        """
        key = (api_version, kind)
        if key not in self._resources:
            prefix = Resource(api_version, "", namespaced=False).prefix
            for entry in self.request("GET", prefix)["resources"]:
                if "/" not in entry["name"]:
                    self._resources[api_version, entry["kind"]] = Resource(
                        api_version, entry["name"], namespaced=entry["namespaced"]
                    )
        try:
            return self._resources[key]
        except KeyError:
            raise ApiError(
                "GET",
                api_version,
                status=404,
                message=f"the cluster does not serve the kind {kind!r}",
            ) from None

    def apply(self, manifests: Sequence[Mapping[str, Any]], *, namespace: str) -> list[Json]:
        """Create or change objects by server-side apply, in the order given.

        :param namespace: for namespaced objects that name none
        :raises ApiError: if the API refuses one
        :source: Kubernetes documentation, "Server-Side Apply"
        """
        made = []
        for manifest in manifests:
            where = self.resource(manifest["apiVersion"], manifest["kind"])
            metadata = manifest["metadata"]
            path = where.path(metadata.get("namespace") or namespace, metadata["name"])
            made.append(
                self.request(
                    "PATCH",
                    path,
                    query={"fieldManager": FIELD_MANAGER, "force": "true"},
                    body=manifest,
                    content_type="application/apply-patch+yaml",
                    repeatable=True,
                )
            )
        return made

    def get(self, where: Resource, namespace: str, name: str) -> Json:
        """Return one object.

        :raises ApiError: if there is none (status 404)
        """
        return self.request("GET", where.path(namespace, name))

    def list(self, where: Resource, namespace: str = "", *, selector: str = "") -> list[Json]:
        """Return the objects of a collection that a label selector picks."""
        query = {"labelSelector": selector} if selector else None
        items: list[Json] = self.request("GET", where.path(namespace), query=query)["items"]
        return items

    def delete(
        self,
        where: Resource,
        namespace: str,
        name: str,
        *,
        grace_s: int | None = None,
        uid: str = "",
    ) -> None:
        """Delete one object; one that is gone already is no error.

        :param grace_s: for pods: 0 kills at once; None: as the pod says
        :param uid: only the object that has this UID; empty: whichever has the name
        :raises ApiError: if the API refuses it; status 409: another has the name by now
        """
        body: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", where.path(namespace, name), body=body)
        except ApiError as error:
            if error.status != 404:
                raise

    def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        lines: int = 50,
        previous: bool = False,
    ) -> str:
        """Return the last *lines* of what a container has written.

        :param previous: not it itself, but the one in whose place it was started
        :raises ApiError: if it has not started yet, or was never restarted (status 400), or is
            gone (404)
        """
        query = {"tailLines": str(lines)}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        with self.stream(PODS.path(namespace, pod, "log"), query=query) as stream:
            return b"".join(stream.pieces()).decode(errors="replace")


def _object(verb: str, path: str, status: int, text: bytes) -> Json:
    """Return the object that is the body of an answer.

    :raises ApiError: if it is none: something else than an API has answered
    """
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        shown = text[:_SHOWN_BYTES].decode(errors="replace")
        message = f"{shown!r} is no JSON object; is a proxy or a login page in its place?"
        raise ApiError(verb, path, status=status, message=message)
    return found


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return what the API asks for, in seconds; 0 where it says nothing usable.

    :source: RFC 9110, section 10.2.3 (the form with a number; Kubernetes sends no other)
    """
    try:
        return float(headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0
