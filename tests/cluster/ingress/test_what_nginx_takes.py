"""nginx itself, on what is made of Ingresses: takes all of it, matches paths as upstream does."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import socket
import string
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.ingress.binary import find_nginx
from pytest_grpclb.clusters.embedded.ingress.configuration import (
    FAKE_KEYPAIR,
    Configuration,
    Upstream,
)
from pytest_grpclb.clusters.embedded.ingress.fake import fake_keypair
from pytest_grpclb.clusters.embedded.ingress.nginx_conf import Places, nginx_conf
from pytest_grpclb.clusters.embedded.ingress.translate import CLASSES, INGRESSES, translate
from pytest_grpclb.clusters.embedded.store.store import Store
from pytest_grpclb.model import UPSTREAM_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

HOST = "a.example.com"
NAMES = ("127.0.0.1", 53)

Rule = tuple[str, str]
"""A path and its type."""

EACH_EXAMPLE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def store_of(hosts: Mapping[str, Sequence[Rule]], **annotations: str) -> Store:
    """Return a store with one Ingress, whose rules lead to Services of their own, by number."""
    store = Store(now=lambda: dt.datetime.now(dt.UTC))
    store.create(
        CLASSES, {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}
    )
    made = []
    for host, rules in hosts.items():
        paths = []
        for number, (path, kind) in enumerate(rules, start=1):
            paths.append({"path": path, "pathType": kind, "backend": leads_to(number)})
            service = {"metadata": {"name": f"shop{number}", "namespace": "ns"}}
            if store.find("services", f"shop{number}", "ns") is None:
                spec = {"clusterIP": "10.0.0.9", "ports": [{"port": 80}]}
                store.create("services", {**service, "spec": spec})
        made.append({"host": host, "http": {"paths": paths}})
    keys = {f"nginx.ingress.kubernetes.io/{key}": value for key, value in annotations.items()}
    store.create(
        INGRESSES,
        {
            "metadata": {"name": "web", "namespace": "ns", "annotations": keys},
            "spec": {"ingressClassName": "nginx", "rules": made},
        },
    )
    return store


def leads_to(number: int) -> dict[str, Any]:
    return {"service": {"name": f"shop{number}", "port": {"number": 80}}}


def written(directory: Path, configuration: Configuration, places: Places) -> list[str]:
    """Write nginx's files; return the command that starts it."""
    (directory / "keypairs").mkdir(exist_ok=True)
    (directory / "temp").mkdir(exist_ok=True)
    fake = fake_keypair(dt.datetime.now(dt.UTC))
    (directory / "keypairs" / f"{FAKE_KEYPAIR}.pem").write_bytes(fake.pem)
    text = nginx_conf(configuration, places=places, names=NAMES)
    (directory / "nginx.conf").write_text(text)
    return [str(find_nginx()), "-p", str(directory), "-e", "stderr", "-c", "nginx.conf"]


def refusal(directory: Path, configuration: Configuration) -> str:
    """Return what nginx has against a configuration; nothing if it takes it."""
    here = "127.0.0.1"
    places = Places(http=(here, 18080), https=(here, 18443), inner=(here, 18444))
    command = [*written(directory, configuration, places), "-t"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize(
    "rules",
    [
        [("/a", "Prefix"), ("/a", "Exact")],
        [("/a", "Exact"), ("/a", "Prefix")],
        [("/a", "Prefix"), ("/a/", "Prefix")],
        [("/a/", "Exact"), ("/a", "Prefix"), ("/a/", "Prefix")],
        [("/a", "ImplementationSpecific"), ("/a", "Prefix")],
        [("/", "Exact"), ("/", "Prefix"), ("//", "Prefix")],
    ],
)
def test_one_path_may_have_rules_of_several_types(tmp_path: Path, rules: list[Rule]) -> None:
    assert refusal(tmp_path, translate(store_of({HOST: rules})).configuration) == ""


LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=63)
HOSTS = st.one_of(
    st.sampled_from(
        ["a.example.com", "*.example.com", "default", "hostnames", "*.com", "volatile"]
    ),
    st.lists(LABEL, min_size=1, max_size=3).map(".".join),
)
SEGMENTS = st.lists(st.sampled_from(["a", "b", ""]), max_size=3).map("/".join)
PATHS = st.one_of(
    SEGMENTS.map("/{}".format),
    st.text("/ab._~-", max_size=5).map("/{}".format),
    st.text(max_size=8).map("/{}".format),
)
TYPES = st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"])


@EACH_EXAMPLE
@given(
    hosts=st.dictionaries(HOSTS, st.lists(st.tuples(PATHS, TYPES), max_size=8), max_size=5),
    passthrough=st.booleans(),
)
@example(hosts={".".join(["a" * 61] * 4): [("/", "Prefix")]}, passthrough=True)
@example(hosts={"default": [("/", "Prefix")], "*.com": [("/", "Prefix")]}, passthrough=True)
@example(hosts={HOST: [("/\ud800", "ImplementationSpecific")]}, passthrough=False)
def test_nginx_takes_whatever_hosts_paths_and_types_there_are(
    tmp_path: Path, hosts: dict[str, list[Rule]], passthrough: bool
) -> None:
    store = store_of(hosts, **{"ssl-passthrough": "true"} if passthrough else {})
    assert refusal(tmp_path, translate(store).configuration) == ""


@pytest.mark.parametrize("size", ["1", "64k", "999999999g", "0"])
def test_nginx_takes_every_size_that_is_not_complained_of(tmp_path: Path, size: str) -> None:
    store = store_of({HOST: [("/", "Prefix")]}, **{"proxy-body-size": size})
    told = translate(store)
    assert [note for note in told.notes if note.reason == "Annotation"] == []
    assert refusal(tmp_path, told.configuration) == ""


# --- which rule a call meets


def expected(rules: Sequence[Rule], path: str) -> int | str:
    """Return the number of the rule that ingress-nginx has for a call, or the status it answers.

    :source: ingress-nginx v1.15.1, internal/ingress/controller/location.go
        (updateServerLocations) and store.go (ImplementationSpecific is a Prefix there);
        nginx documentation, ngx_http_core_module: location
    """
    exact: dict[str, int] = {}
    prefix: dict[str, int] = {}
    for number, (each, kind) in enumerate(rules, start=1):
        if kind == "Exact":
            exact.setdefault(each, number)
        elif not {each.rstrip("/"), each.rstrip("/") + "/"} & set(prefix):
            prefix[each] = number
    if path in exact:
        return exact[path]
    if path in prefix:
        return prefix[path]
    if f"{path}/" in prefix or f"{path}/" in exact:
        return "301"  # nginx's own, to the path with the slash
    fitting = [each for each in prefix if path.startswith(each.rstrip("/") + "/")]
    return prefix[max(fitting, key=len)] if fitting else "404"


CLEAN = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)
RULES = st.lists(
    st.tuples(
        st.one_of(st.just("/"), CLEAN.map("/{}".format), CLEAN.map("/{}/".format)),
        TYPES,
    ),
    min_size=1,
    max_size=6,
)
ASKED = ["/", "/a", "/a/", "/b", "/a/b", "/a/b/", "/ab", "/a/a/a", "/b/a/x", "/c"]


@settings(EACH_EXAMPLE, max_examples=15)
@given(many=st.lists(RULES, min_size=5, max_size=10))
@example(many=[[("/a", "Prefix"), ("/a", "Exact")], [("/a", "Exact"), ("/a", "Prefix")]])
@example(many=[[("/a/", "Prefix"), ("/", "Prefix")], [("/a", "ImplementationSpecific")]])
def test_a_call_meets_the_rule_that_ingress_nginx_has_for_it(
    tmp_path: Path, many: list[list[Rule]]
) -> None:
    """Nobody listens at the places that rules lead to: which one was tried is in the answer."""
    hosts = {f"h{index}.example.com": rules for index, rules in enumerate(many)}
    configuration = translate(store_of(hosts)).configuration
    upstreams = tuple(
        Upstream(name=each.name, leads_to=("127.0.0.1", int(each.leads_to.service[4:])))
        for each in configuration.upstreams
        if not isinstance(each.leads_to, tuple)
    )
    fixed = Configuration(servers=configuration.servers, upstreams=upstreams)
    with running(tmp_path, fixed) as address:
        for host, rules in hosts.items():
            seen = {path: answered(address, host, path) for path in ASKED}
            assert seen == {path: expected(rules, path) for path in ASKED}


@contextlib.contextmanager
def running(directory: Path, configuration: Configuration) -> Iterator[tuple[str, int]]:
    """Start nginx; return where it answers in plaintext."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        http_, https, inner = (each.getsockname() for each in sockets)
    places = Places(http=http_, https=https, inner=inner)
    command = written(directory, configuration, places)
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as nginx:
        try:
            deadline_s = time.monotonic() + 10
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(http_).close()
                    break
                assert nginx.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            yield http_
        finally:
            nginx.terminate()


def answered(address: tuple[str, int], host: str, path: str) -> int | str:
    connection = http.client.HTTPConnection(*address, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        upstream = response.getheader(UPSTREAM_HEADER)
    # Where the connection failed, nginx goes on to say that there is no other.
    return int(upstream.split(",")[0].rpartition(":")[2]) if upstream else str(response.status)
