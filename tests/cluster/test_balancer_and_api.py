"""The balancer and the API of the embedded cluster: no change is lost while the API is away."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.embedded.access import Access
from pytest_grpclb.clusters.embedded.api.accounts import Accounts
from pytest_grpclb.clusters.embedded.api.api import Answer, Api, Request
from pytest_grpclb.clusters.embedded.api.https import Server, serve
from pytest_grpclb.clusters.embedded.api.rbac import DEFAULTS
from pytest_grpclb.clusters.embedded.store.store import Store
from pytest_grpclb.clusters.embedded.store.watch import HISTORY
from pytest_grpclb.programs.balancer_watch import Account, EndpointWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_S = 20.0
SLICES = "endpointslices.discovery.k8s.io"
RBAC = "rbac.authorization.k8s.io"
LABELS = {"kubernetes.io/service-name": "shop"}


class CountingApi(Api):
    """Counts what is asked for."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.asked: Counter[str] = Counter()

    def handle(self, request: Request) -> Answer:
        answer = super().handle(request)
        verb = "watch" if "watch=" in request.query else "list"
        self.asked[f"{verb} {answer.status}"] += 1
        return answer


class World:
    """An API server that can go away and come back, in a thread of its own, and a balancer."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.store = Store()
        access = Access("127.0.0.1", "cluster.local")
        self._context = access.server_context()
        for kind, obj in DEFAULTS:
            self.store.create(kind, obj)
        account = self.create("serviceaccounts", "balancer")
        rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]}
        rule["verbs"] = ["list", "watch"]
        self.create(f"roles.{RBAC}", "balancer", rules=[rule])
        accounts = Accounts(self.store)
        self.api = CountingApi(self.store, token="admin", accounts=accounts, log_reader=no_logs)
        (directory / "ca.crt").write_bytes(access.authority_pem)
        (directory / "token").write_text(accounts.token(account))
        self._server: Server | None = None
        self.port = 0
        self.arrive()
        self._published: queue.Queue[list[str]] = queue.Queue()
        self.watch = EndpointWatch(
            Account(host="127.0.0.1", port=self.port, directory=directory),
            namespace="team",
            service="shop",
            port_name="grpc",
            publish=lambda servers: self._published.put([str(server) for server in servers]),
        )

    def close(self) -> None:
        self.watch.stop()
        self.leave()
        if self.watch._thread.is_alive():
            self.watch._thread.join(TIMEOUT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def arrive(self) -> None:
        """Let the API be there, on the port that it had."""
        serving = serve(self.api, "127.0.0.1", self.port, self._context)
        self._server = asyncio.run_coroutine_threadsafe(serving, self.loop).result(TIMEOUT_S)
        self.port = self._server.port

    def leave(self) -> None:
        """Let the API go away, and all connections with it."""
        assert self._server is not None
        closing = self._server.close(grace_s=0)
        asyncio.run_coroutine_threadsafe(closing, self.loop).result(TIMEOUT_S)

    def change(self, work: Callable[[], Any]) -> Any:
        """Do something with the store, in its thread."""

        async def do() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(TIMEOUT_S)

    def create(self, kind: str, name: str, **fields: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "team", **fields.pop("metadata", {})}
        made: dict[str, Any] = self.change(
            lambda: self.store.create(kind, {"metadata": metadata, **fields})
        )
        return made

    def bind(self) -> None:
        self.create(
            f"rolebindings.{RBAC}",
            "balancer",
            roleRef={"apiGroup": RBAC, "kind": "Role", "name": "balancer"},
            subjects=[{"kind": "ServiceAccount", "name": "balancer", "namespace": "team"}],
        )

    def add(self, name: str, address: str) -> None:
        """Add a slice with one ready endpoint."""
        endpoint = {"addresses": [address], "conditions": {"ready": True}}
        self.create(
            SLICES,
            name,
            metadata={"labels": LABELS},
            addressType="IPv4",
            ports=[{"name": "grpc", "port": 1, "protocol": "TCP"}],
            endpoints=[endpoint],
        )

    def drop(self, name: str) -> None:
        self.change(lambda: self.store.delete(SLICES, name, "team"))

    def servers(self) -> list[str]:
        """Return what the balancer's clients would be told next."""
        return self._published.get(timeout=TIMEOUT_S)


def no_logs(*_: Any) -> Any:
    raise NotImplementedError


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_changes_made_while_the_api_is_away_arrive_once_it_is_back(world: World) -> None:
    world.bind()
    world.add("a", "10.0.0.1")
    world.watch.start()
    assert world.servers() == ["10.0.0.1:1"]
    world.leave()
    world.add("b", "10.0.0.2")
    world.drop("a")
    world.add("c", "10.0.0.3")
    world.arrive()
    told = world.servers()
    while told != ["10.0.0.2:1", "10.0.0.3:1"]:
        told = world.servers()
    # Taken up where it was, not begun anew.
    assert world.api.asked["list 200"] == 1
    world.drop("b")
    assert world.servers() == ["10.0.0.3:1"]


def test_more_changes_than_the_api_remembers_are_listed_anew(world: World) -> None:
    world.bind()
    world.add("a", "10.0.0.1")
    world.watch.start()
    assert world.servers() == ["10.0.0.1:1"]
    world.leave()
    world.drop("a")

    def churn() -> None:
        for number in range(HISTORY // 2 + 1):
            metadata = {"name": f"churn-{number}", "namespace": "team"}
            world.store.create(SLICES, {"metadata": metadata, "endpoints": []})
            world.store.delete(SLICES, metadata["name"], "team")

    world.change(churn)
    world.add("b", "10.0.0.2")
    world.arrive()
    assert world.servers() == ["10.0.0.2:1"]
    assert world.api.asked["list 200"] == 2


def test_a_balancer_goes_on_as_soon_as_it_is_given_its_role(world: World) -> None:
    world.add("a", "10.0.0.1")
    world.watch.start()
    while not world.api.asked["list 403"]:
        world.change(lambda: None)
    world.bind()
    assert world.servers() == ["10.0.0.1:1"]
