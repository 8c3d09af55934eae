"""An API over a store of its own, and a client that speaks to it without a socket."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.api.api import Answer, Api, Request, Response
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pytest_grpclb.clusters.embedded.api.streams import LogOptions

Json = dict[str, Any]
TOKEN = "sesame"


class Client:
    """Sends requests to an API and reads its answers."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
        self.clock_s = 1000.0
        self.store = Store(now=lambda: self.now)
        self.admitted: list[tuple[str, Json]] = []
        self.logs_asked: list[LogOptions] = []
        self.api = Api(
            self.store,
            token=TOKEN,
            log_reader=self._read_log,
            admit=self._admit,
            clock=lambda: self.clock_s,
        )
        self.store.create("namespaces", {"metadata": {"name": "default"}})

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        **query: str,
    ) -> Answer:
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        return self.api.handle(
            Request(
                method=method,
                path=path,
                query="&".join(f"{key}={value}" for key, value in query.items()),
                headers={
                    "authorization": f"Bearer {TOKEN}",
                    "accept": accept,
                    "content-type": content_type,
                    "user-agent": "tests/1.0",
                },
                body=data,
            )
        )

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        answer = self.send(method, path, body, **more)
        assert isinstance(answer, Response), answer
        return answer.status, json.loads(answer.body)

    def get(self, path: str, **more: Any) -> Any:
        status, told = self.ask("GET", path, **more)
        assert status == 200, told
        return told

    def make(self, path: str, body: Json, **more: Any) -> Any:
        status, told = self.ask("POST", path, body, **more)
        assert status == 201, told
        return told

    def refused(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> tuple[int, str, str]:
        """Return code, reason and message of the Status that a request is answered with."""
        status, told = self.ask(method, path, body, **more)
        assert told["kind"] == "Status"
        assert told["code"] == status
        return status, told["reason"], told["message"]

    def _admit(self, kind: str, obj: Json) -> Json:
        self.admitted.append((kind, obj))
        return obj

    def _read_log(self, _pod: Json, options: LogOptions) -> AsyncGenerator[bytes, None]:
        self.logs_asked.append(options)
        return _lines()


async def _lines() -> AsyncGenerator[bytes, None]:
    yield b"one\n"
    yield b"two\n"


@pytest.fixture
def client() -> Client:
    return Client()


class Clock:
    """A clock that stands until it is put forward."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(now=clock)
