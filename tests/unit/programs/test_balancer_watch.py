"""How the balancer follows the API: no change is missed, and no refusal is a riddle."""

from __future__ import annotations

import logging
import queue
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.programs import balancer_watch
from pytest_grpclb.programs.balancer_watch import Account, EndpointWatch
from pytest_grpclb.programs.serving import ProgramError

from .scripted_api import (
    DEADLINE_S,
    TOKEN,
    ScriptedApi,
    Watched,
    answers,
    hang_up,
    lists,
    refuses,
)
from .test_balancer_endpoints import endpoint, endpoint_slice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_grpclb.programs.balancer_endpoints import Server

PATH = "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices"
ONE = endpoint_slice("one", endpoint("10.0.0.1"))
TWO = endpoint_slice("two", endpoint("10.0.0.2"))


class Following:
    """A watch under test, and what it has published."""

    def __init__(self, api: ScriptedApi) -> None:
        self.api = api
        self._published: queue.Queue[tuple[Server, ...]] = queue.Queue()
        self.watch = EndpointWatch(
            Account(host="127.0.0.1", port=api.port, directory=api.directory),
            namespace="team",
            service="shop",
            port_name="grpc",
            publish=self._published.put,
        )
        self.watch.start()

    def servers(self) -> list[str]:
        """Return what is published next."""
        return [str(server) for server in self._published.get(timeout=DEADLINE_S)]

    def listed(self) -> None:
        """Check that the next request is for a list."""
        request = self.api.request()
        assert request.pop("token") == f"Bearer {TOKEN}"
        assert request == {"path": PATH, "labelSelector": "kubernetes.io/service-name=shop"}

    def watched(self, since: int) -> None:
        """Check that the next request is for a watch from a version on."""
        request = self.api.request()
        assert 240 <= int(request.pop("timeoutSeconds")) <= 300
        assert request == {
            "path": PATH,
            "token": f"Bearer {TOKEN}",
            "labelSelector": "kubernetes.io/service-name=shop",
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(since),
        }

    def end(self) -> None:
        """Stop it, and whatever it asks of the API meanwhile."""
        self.watch.stop()
        self.api.steps.put(hang_up)
        self.api.steps.put(hang_up)
        self.watch._thread.join(DEADLINE_S)

    @property
    def nothing_published(self) -> bool:
        return self._published.empty()


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedApi]:
    monkeypatch.setattr(balancer_watch, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(balancer_watch, "_LONGEST_PAUSE_S", 0.02)
    scripted = ScriptedApi(tmp_path)
    yield scripted
    scripted.close()


@pytest.fixture
def following(api: ScriptedApi) -> Iterator[Following]:
    made = Following(api)
    yield made
    made.end()


def begin(following: Following, *slices: dict[str, Any]) -> Watched:
    """Let it list *slices* at version 7 and watch from there."""
    watched = Watched()
    following.api.steps.put(lists(7, *slices))
    following.api.steps.put(watched)
    following.listed()
    following.watched(7)
    return watched


def test_it_lists_then_watches_from_that_version(following: Following) -> None:
    watched = begin(following, ONE)
    assert following.servers() == ["10.0.0.1:50051"]
    watched.send("ADDED", TWO, 8)
    assert following.servers() == ["10.0.0.1:50051", "10.0.0.2:50051"]
    watched.send("DELETED", ONE, 9)
    assert following.servers() == ["10.0.0.2:50051"]
    watched.end()


def test_what_changes_no_server_is_not_published(following: Following) -> None:
    watched = begin(following, ONE)
    assert following.servers() == ["10.0.0.1:50051"]
    unready = endpoint_slice("two", endpoint("10.0.0.2", ready=False))
    watched.send("ADDED", unready, 8)
    watched.send("MODIFIED", TWO, 9)
    assert following.servers() == ["10.0.0.1:50051", "10.0.0.2:50051"]
    watched.end()


def test_no_servers_at_all_are_published_too(following: Following) -> None:
    watched = begin(following)
    assert following.servers() == []
    watched.end()


def test_events_may_arrive_in_pieces_or_many_at_once(following: Following) -> None:
    watched = begin(following)
    assert following.servers() == []
    watched.send_raw(b'{"type": "ADDED", "object": {"metadata": {"name": "a", "resou')
    watched.send_raw(b'rceVersion": "8"}, "addressType": "IPv4", "ports": [{"name": "grpc", ')
    watched.send_raw(b'"port": 1}], "endpoints": [{"addresses": ["10.0.0.1"]}]}}\n{"type": ')
    watched.send_raw(
        b'"BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}\n{"type": "DELETED", '
        b'"object": {"metadata": {"name": "a", "resourceVersion": "10"}}}\n'
    )
    assert following.servers() == ["10.0.0.1:1"]
    assert following.servers() == []
    watched.end()


def test_a_watch_that_breaks_is_taken_up_at_the_last_version(following: Following) -> None:
    watched = begin(following, ONE)
    assert following.servers() == ["10.0.0.1:50051"]
    watched.send("MODIFIED", ONE, 12)
    watched.break_off()
    again = Watched()
    following.api.steps.put(again)
    following.watched(12)
    again.send("ADDED", TWO, 13)
    assert following.servers() == ["10.0.0.1:50051", "10.0.0.2:50051"]
    again.end()


def test_a_bookmark_moves_the_version_on(following: Following) -> None:
    watched = begin(following, ONE)
    watched.send("BOOKMARK", {}, 40)
    watched.break_off()
    again = Watched()
    following.api.steps.put(again)
    following.watched(40)
    again.end()


@pytest.mark.parametrize("how", ["status", "event"])
def test_when_the_changes_are_gone_it_lists_anew(following: Following, how: str) -> None:
    watched = begin(following, ONE)
    assert following.servers() == ["10.0.0.1:50051"]
    message = "too old resource version: 7 (90)"
    if how == "event":
        watched.send("ERROR", {"code": 410, "message": message})
        watched.end()
    else:
        watched.break_off()
        following.api.steps.put(refuses(410, message))
        following.watched(7)
    again = Watched()
    following.api.steps.put(lists(90, TWO))
    following.api.steps.put(again)
    following.listed()
    following.watched(90)
    assert following.servers() == ["10.0.0.2:50051"]  # the deletion of "one" was never seen
    again.end()


def test_a_watch_that_ends_at_once_is_not_opened_in_a_loop(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begin(following, ONE).end()
    again = Watched()
    following.api.steps.put(again)
    following.watched(7)
    assert "the API cannot be reached: the API ended the watch at once; trying again in 0.0 s" in (
        caplog.text
    )
    again.end()


def test_an_api_that_is_away_is_asked_again_until_it_is_there(following: Following) -> None:
    following.api.steps.put(refuses(503, "not yet"))
    following.listed()
    following.api.steps.put(hang_up)
    following.listed()
    watched = begin(following, ONE)
    assert following.servers() == ["10.0.0.1:50051"]
    watched.end()


FORBIDDEN = (
    'endpointslices.discovery.k8s.io is forbidden: User "system:serviceaccount:team:b" cannot {} '
    'resource "endpointslices" in API group "discovery.k8s.io" in the namespace "team"'
)
ADVICE = (
    "; the balancer's service account lacks the verb '{}': bind it to a Role in the namespace "
    "'team' with the verbs get, list and watch on endpointslices of the API group "
    "discovery.k8s.io (the chart does so with balancer.rbac.create=true); trying again in 0.0 s"
)


def test_without_the_right_to_list_it_says_what_is_missing(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    following.api.steps.put(refuses(403, FORBIDDEN.format("list")))
    following.listed()
    begin(following).end()
    assert f"the API refuses: {FORBIDDEN.format('list')}{ADVICE.format('list')}" in caplog.text


def test_who_may_list_but_not_watch_publishes_nothing(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be ready, and stale from then on."""
    caplog.set_level(logging.INFO)
    following.api.steps.put(lists(7, ONE))
    following.listed()
    following.api.steps.put(refuses(403, FORBIDDEN.format("watch")))
    following.watched(7)
    following.api.steps.put(lists(8, TWO))
    following.listed()
    assert following.nothing_published
    assert f"the API refuses: {FORBIDDEN.format('watch')}{ADVICE.format('watch')}" in caplog.text
    watched = Watched()
    following.api.steps.put(watched)
    following.watched(8)
    assert following.servers() == ["10.0.0.2:50051"]
    watched.end()


def test_a_refusal_that_is_no_status_is_told_by_its_code(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def refuse(handler: Any) -> None:
        handler.send_response(502, "Bad Gateway")
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"oops")

    following.api.steps.put(refuse)
    following.listed()
    begin(following).end()
    assert "the API refuses: 502 Bad Gateway; trying again in" in caplog.text


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b'{"type": "ADDED"}\n', "KeyError('object')"),
        (b'{"type": "ADDED", "object": {"metadata": {}}}\n', "KeyError('name')"),
        (b'["what"]\n', "TypeError('list indices must be integers or slices, not str')"),
    ],
)
def test_events_that_cannot_be_read_are_told_and_it_lists_anew(
    following: Following, caplog: pytest.LogCaptureFixture, sent: bytes, told: str
) -> None:
    caplog.set_level(logging.INFO)
    watched = begin(following, ONE)
    assert following.servers() == ["10.0.0.1:50051"]
    watched.send_raw(sent)
    watched.end()
    begin(following, TWO).end()
    assert following.servers() == ["10.0.0.2:50051"]
    assert f"the API says what cannot be read: {told}; trying again in" in caplog.text


def test_an_answer_that_is_no_list_is_told(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    following.api.steps.put(answers(200, {"hello": "from a captive portal"}))
    following.listed()
    begin(following, ONE).end()
    assert following.servers() == ["10.0.0.1:50051"]
    assert "the API says what cannot be read: KeyError('items'); trying again in" in caplog.text


def test_the_token_is_read_anew(following: Following) -> None:
    watched = begin(following)
    (following.api.directory / "token").write_text("another")
    watched.break_off()
    again = Watched()
    following.api.steps.put(again)
    assert following.api.request()["token"] == "Bearer another"
    again.end()


def test_it_trusts_nobody_but_the_clusters_own_authority(
    api: ScriptedApi, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    elsewhere = ScriptedApi(tmp_path_factory.mktemp("other"))
    elsewhere.directory, mine = api.directory, elsewhere.directory
    following = Following(elsewhere)
    try:
        while "certificate verify failed" not in caplog.text:
            following.watch._stopping.wait(0.01)
        assert elsewhere.requests.empty()
        (api.directory / "ca.crt").write_bytes((mine / "ca.crt").read_bytes())
        begin(following).end()
    finally:
        following.end()
        elsewhere.close()


def test_pauses_double_up_to_a_limit(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.undo()
    caplog.set_level(logging.INFO)
    watch = EndpointWatch(
        Account(host="127.0.0.1", port=api.port, directory=api.directory),
        namespace="team",
        service="shop",
        port_name="grpc",
        publish=lambda _: None,
    )
    watch.stop()  # so that it does not really wait
    for _ in range(9):
        watch._back_off("away")
    pauses_s = [float(record.getMessage().split()[-2]) for record in caplog.records]
    limits_s = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    for pause_s, limit_s in zip(pauses_s, limits_s, strict=True):
        assert limit_s / 2 - 0.05 <= pause_s <= limit_s + 0.05


@pytest.mark.parametrize(("host", "port"), [("", "443"), ("10.96.0.1", "https"), ("10.96.0.1", "")])
def test_outside_of_a_pod_it_says_so(monkeypatch: pytest.MonkeyPatch, host: str, port: str) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    with pytest.raises(ProgramError) as caught:
        Account.from_environment()
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"KUBERNETES_SERVICE_HOST={host!r} and KUBERNETES_SERVICE_PORT={port!r} cannot be used; "
        "expected the address of the Kubernetes API: the balancer runs in a pod"
    )


def test_a_pod_without_its_token_is_told_the_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("GRPCLB_SERVICEACCOUNT_DIR", str(tmp_path))
    with pytest.raises(ProgramError) as caught:
        Account.from_environment()
    assert str(caught.value) == (
        f"{tmp_path / 'token'} is not there; expected the files of the pod's service account: set "
        "automountServiceAccountToken: true in the pod's spec"
    )


def test_the_account_is_where_kubernetes_puts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text(f"{name}\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    monkeypatch.setenv("GRPCLB_SERVICEACCOUNT_DIR", str(tmp_path))
    account = Account.from_environment()
    assert account == Account(host="10.96.0.1", port=6443, directory=tmp_path)
    assert (account.token(), account.namespace()) == ("token", "")
    (tmp_path / "namespace").write_text("team")
    assert account.namespace() == "team"
