"""The Kubernetes API as a function of requests to answers: no sockets, one thread.

:source: Kubernetes documentation, "API concepts"
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from pytest_grpclb.clusters.embedded.api import discovery
from pytest_grpclb.clusters.embedded.api.accounts import Accounts
from pytest_grpclb.clusters.embedded.api.forwarding import ForwardResponse, forward
from pytest_grpclb.clusters.embedded.api.logs import log_options
from pytest_grpclb.clusters.embedded.api.media import (
    AGGREGATED_DISCOVERY,
    Form,
    encode,
    form_of_answer,
    media_type,
    parse,
)
from pytest_grpclb.clusters.embedded.api.query import Query
from pytest_grpclb.clusters.embedded.api.rbac import ADMINISTRATOR, Act, User, authorize
from pytest_grpclb.clusters.embedded.api.remover import delete_options, remove, remove_all
from pytest_grpclb.clusters.embedded.api.routing import Place, locate
from pytest_grpclb.clusters.embedded.api.streams import (
    LogReader,
    LogResponse,
    WatchOptions,
    WatchResponse,
)
from pytest_grpclb.clusters.embedded.api.tables import table
from pytest_grpclb.clusters.embedded.api.writer import (
    APPLY,
    Admit,
    Validation,
    WriteOptions,
    Writer,
    scale_of,
)
from pytest_grpclb.clusters.embedded.store.selectors import Test, fields, labels, selected_name
from pytest_grpclb.clusters.embedded.store.status import (
    BadRequestError,
    MethodNotAllowedError,
    StatusError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_grpclb.clusters.embedded.store.store import Object, Store

__all__ = ["Answer", "Api", "Request", "Response"]

_HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
_POSTED = frozenset({"eviction", "token"})
"""Subresources that are asked for something, with an object that is not kept."""
_WRITTEN = frozenset({"", "scale", "status"})
"""Subresources that are written; the empty one is the object itself."""
_CREATED = 201


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, read whole."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer that is complete."""

    status: int
    body: bytes
    content_type: str = "application/json"
    warnings: tuple[str, ...] = ()
    """Texts for ``Warning`` headers: what kubectl prints though all went well."""


Answer = Response | WatchResponse | LogResponse | ForwardResponse


class Api:
    """Answers requests from a store.

    :param token: the bearer token of who may do everything
    :param accounts: knows the tokens of service accounts, which may do what RBAC lets them; without
        either token nothing is answered
    :param log_reader: reads the logs of containers
    :param admit: has the last word on objects before they are created
    :param clock: monotonic seconds, for timeouts and bookmarks of watches
    """

    def __init__(
        self,
        store: Store,
        *,
        token: str,
        log_reader: LogReader,
        accounts: Accounts | None = None,
        admit: Admit = lambda _kind, obj: obj,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._log_reader, self._clock = store, log_reader, clock
        self._writer = Writer(store, admit)
        self._token = token.encode()
        self._accounts = accounts or Accounts(store)

    def handle(self, request: Request) -> Answer:
        """Answer a request; what is refused is answered with a Status."""
        try:
            return self._answer(request, self._authenticate(request))
        except StatusError as error:
            return Response(status=error.code, body=encode(error.status()))

    def _authenticate(self, request: Request) -> User:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # In constant time, so that a wrong token's answer does not tell how wrong it is.
            if hmac.compare_digest(given.encode(), self._token):
                return ADMINISTRATOR
            user = self._accounts.user(given)
            if user is not None:
                return user
        raise UnauthorizedError(
            "the request carries no bearer token of this embedded cluster; use its kubeconfig"
        )

    def _authorize(self, user: User, request: Request, place: Place, query: Query) -> None:
        kind, name = place.kind, place.name
        namespace = place.namespace
        if kind.name == "namespaces":
            namespace = name  # what may be done in a namespace may include reading its object
        elif not name and request.method == "GET":
            name = selected_name(query.text("fieldSelector"))
        for verb in self._verbs(request, place, query):
            act = Act(
                verb=verb,
                group=kind.group,
                resource=kind.plural,
                subresource=place.subresource,
                namespace=namespace,
                name=name,
            )
            authorize(self._store, user, act)

    def _verbs(self, request: Request, place: Place, query: Query) -> tuple[str, ...]:
        """Return the verbs that a request needs, as roles name them."""
        match request.method:
            case "GET" if place.name:
                return ("get",)
            case "GET":
                return ("watch",) if query.flag("watch") else ("list",)
            case "PATCH" if media_type(request.headers.get("content-type", "")) == APPLY:
                there = self._store.find(place.kind.name, place.name, place.namespace)
                return ("patch",) if there else ("patch", "create")
            case "DELETE" if not place.name:
                return ("deletecollection",)
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        return (verbs.get(request.method, request.method.lower()),)

    def _answer(self, request: Request, user: User) -> Answer:  # noqa: PLR0911 - one for each verb
        described = self._describe(request)
        if described is not None:
            authorize(self._store, user, Act(verb=request.method.lower(), path=request.path))
            return described
        place = locate(request.path)
        query = Query(request.query)
        self._authorize(user, request, place, query)
        match request.method:
            case "GET" if place.name:
                return self._get(request, place, query)
            case "GET":
                return self._list(request, place, query)
            case "POST" if place.subresource == "portforward":
                return self._get(request, place, query)
            case "POST" if not place.name or place.subresource in _POSTED:
                return self._create(request, place, query)
            case "PUT" | "PATCH" if place.name and place.subresource in _WRITTEN:
                return self._change(request, place, query)
            case "DELETE" if not place.subresource:
                return self._delete(request, place, query)
        raise MethodNotAllowedError(
            f"the embedded cluster does not take {request.method} for {request.path!r}"
        )

    def _describe(self, request: Request) -> Response | None:
        """Answer what asks for the API itself; None: the request asks for objects."""
        if request.path in _HEALTH:
            return Response(status=200, body=b"ok", content_type="text/plain")
        accept = request.headers.get("accept", "")
        whole = discovery.aggregated(request.path)
        if whole is not None and form_of_answer(accept, ("json", "discovery")) == "discovery":
            return Response(status=200, body=encode(whole), content_type=AGGREGATED_DISCOVERY)
        document = discovery.describe(request.path) or discovery.openapi(request.path)
        if document is None:
            return None
        if request.method != "GET":
            raise MethodNotAllowedError(f"{request.path!r} can only be read, with GET")
        return Response(status=200, body=encode(document))

    # --- reading

    def _get(self, request: Request, place: Place, query: Query) -> Answer:
        obj = self._store.get(place.kind.name, place.name, place.namespace)
        if place.subresource == "log":
            return LogResponse(pieces=self._log_reader(obj, log_options(obj, query)))
        if place.subresource == "portforward":
            return forward(obj, query.text("ports"), request.headers)
        if place.subresource == "scale":
            return Response(status=200, body=encode(scale_of(obj)))
        return Response(status=200, body=encode(self._show(request, place, query, [obj], obj)))

    def _list(self, request: Request, place: Place, query: Query) -> Answer:
        selects = _selection(place, query)
        if query.flag("watch"):
            return self._watch(request, place, query, selects)
        if query.text("continue"):
            raise BadRequestError("continue: lists are given whole, no list had a token to go on")
        items = [obj for obj in self._store.list(place.kind.name, place.namespace) if selects(obj)]
        shown = self._show(request, place, query, items, self._list_of(place, items))
        return Response(status=200, body=encode(shown))

    def _list_of(self, place: Place, items: list[Object]) -> Object:
        return {
            "kind": f"{place.kind.kind}List",
            "apiVersion": place.kind.api_version,
            "metadata": {"resourceVersion": str(self._store.revision)},
            "items": items,
        }

    def _show(
        self, request: Request, place: Place, query: Query, objects: list[Object], plain: Object
    ) -> Object:
        """Return objects in the form that the client accepts: *plain*, or a table."""
        if _form(request) == "json":
            return plain
        include = query.text("includeObject")
        shown = table(place.kind.name, objects, self._store.now(), include=include)
        return {**shown, "metadata": {"resourceVersion": plain["metadata"]["resourceVersion"]}}

    def _watch(self, request: Request, place: Place, query: Query, selects: Test) -> WatchResponse:
        kind, version = place.kind, query.text("resourceVersion")
        streamed = query.flag("sendInitialEvents")
        if streamed and query.text("resourceVersionMatch") != "NotOlderThan":
            raise BadRequestError(
                "sendInitialEvents: Forbidden: sendInitialEvents requires setting "
                "resourceVersionMatch to NotOlderThan"
            )
        # Without a version, and with 0, a watch begins with the objects that there are.
        whole = streamed or (version in {"", "0"} and not query.text("sendInitialEvents"))
        since = self._store.revision if whole else query.whole("resourceVersion")
        watch = self._store.watch(kind.name, place.namespace, since)
        present = self._store.list(kind.name, place.namespace) if whole else []
        bookmarks = query.flag("allowWatchBookmarks")

        def show(obj: Object) -> Object:
            return self._show(request, place, query, [obj], obj)

        return WatchResponse(
            kind,
            watch,
            WatchOptions(
                selects=selects,
                bookmarks=bookmarks,
                initial=tuple(obj for obj in present if selects(obj)),
                mark_end_of_initial=streamed and bookmarks,
                timeout_s=query.whole("timeoutSeconds"),
            ),
            revision=lambda: self._store.revision,
            clock=self._clock,
            show=None if _form(request) == "json" else show,
        )

    # --- writing

    def _create(self, request: Request, place: Place, query: Query) -> Response:
        body = _body(request)
        if place.subresource == "eviction":
            given = body.get("deleteOptions") if isinstance(body, dict) else None
            options = delete_options(given, query, dry_run=_dry_run(query))
            remove(self._store, place, options)
            told = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return Response(status=_CREATED, body=encode(told | {"code": _CREATED}))
        if place.subresource == "token":
            account = self._store.get(place.kind.name, place.name, place.namespace)
            return Response(status=_CREATED, body=encode(self._accounts.request(account, body)))
        options_of_write = _write_options(request, query)
        made = self._writer.create(place, body, options_of_write)
        return self._written(request, place, query, made, options_of_write, _CREATED)

    def _change(self, request: Request, place: Place, query: Query) -> Response:
        options = _write_options(request, query)
        kind = media_type(request.headers.get("content-type", ""))
        status = 200
        if request.method == "PUT":
            obj = self._writer.update(place, _body(request), options)
        elif kind == APPLY:
            if not query.text("fieldManager"):
                raise BadRequestError("fieldManager: Required value: is required for apply patch")
            obj, is_new = self._writer.apply(place, _body(request), options)
            status = _CREATED if is_new else 200
        else:
            obj = self._writer.patch(place, kind, _body(request), options)
        return self._written(request, place, query, obj, options, status)

    def _written(
        self,
        request: Request,
        place: Place,
        query: Query,
        obj: Object,
        options: WriteOptions,
        status: int,
    ) -> Response:
        if place.subresource == "scale":
            shown = scale_of(obj)
        else:
            shown = self._show(request, place, query, [obj], obj)
        return Response(status=status, body=encode(shown), warnings=tuple(options.warnings))

    def _delete(self, request: Request, place: Place, query: Query) -> Response:
        body = _body(request) if request.body else None
        options = delete_options(body, query, dry_run=_dry_run(query))
        if place.name:
            told = remove(self._store, place, options)
        elif place.kind.namespaced and not place.namespace:
            raise MethodNotAllowedError(
                f"{place.kind.name} are deleted in one namespace at a time, not in all"
            )
        else:
            gone = remove_all(self._store, place, options, _selection(place, query))
            told = self._list_of(place, gone)
        return Response(status=200, body=encode(told))


def _form(request: Request) -> Form:
    return form_of_answer(request.headers.get("accept", ""), ("json", "table"))


def _body(request: Request) -> Any:
    return parse(request.headers.get("content-type", ""), request.body)


def _selection(place: Place, query: Query) -> Test:
    by_label = labels(query.text("labelSelector"))
    by_field = fields(place.kind.name, query.text("fieldSelector"))
    return lambda obj: by_label(obj) and by_field(obj)


def _dry_run(query: Query) -> bool:
    value = query.text("dryRun")
    if value not in {"", "All"}:
        raise BadRequestError(f'dryRun: Unsupported value: "{value}": supported values: "All"')
    return value == "All"


def _write_options(request: Request, query: Query) -> WriteOptions:
    validation = query.text("fieldValidation") or "Warn"
    if validation not in get_args(Validation):
        listed = ", ".join(f'"{name}"' for name in get_args(Validation))
        raise BadRequestError(
            f'fieldValidation: Unsupported value: "{validation}": supported values: {listed}'
        )
    agent = request.headers.get("user-agent", "").partition("/")[0]
    return WriteOptions(
        manager=query.text("fieldManager") or agent or "unknown",
        dry_run=_dry_run(query),
        force=query.flag("force"),
        validation=validation,  # type: ignore[arg-type]  # one of its values, as checked above
    )
