"""What every strategy keeps to, so that the stages above can treat all alike."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from pytest_grpclb.chart import charts_directory, render
from pytest_grpclb.errors import OptionError
from pytest_grpclb.model import Service
from pytest_grpclb.settings import Settings
from pytest_grpclb.strategies import STRATEGIES, Strategy, find
from pytest_grpclb.strategies.headless import Headless

SERVICE = Service(
    name="shop", namespace="ns", selector={"app": "shop"}, port=8080, deployment="shop"
)
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
NAMES_DIALLED = ["headless", "clusterip", "lookaside"]
each_dialled_by_name = pytest.mark.parametrize(
    "strategy", [STRATEGIES[name] for name in NAMES_DIALLED], ids=NAMES_DIALLED
)


def test_strategies_are_known_by_their_names() -> None:
    assert list(STRATEGIES) == [
        "headless",
        "clusterip",
        "lookaside",
        "envoy-sidecar",
        "ingress-nginx",
    ]
    assert all(name == strategy.name for name, strategy in STRATEGIES.items())


def test_no_name_or_alias_is_taken_twice() -> None:
    names = [each for one in STRATEGIES.values() for each in (one.name, *one.aliases)]
    assert len(set(names)) == len(names)


def test_a_strategy_is_found_by_name_and_by_alias() -> None:
    aliased = dataclasses.replace(Headless(), name="own", aliases=("mine",))
    known: dict[str, Strategy] = {**STRATEGIES, "own": aliased}
    assert find("clusterip") is STRATEGIES["clusterip"]
    assert find("grpclb") is STRATEGIES["lookaside"]
    assert find("mine", known) is aliased
    assert find("own", known) is aliased


def test_an_unknown_strategy_is_told_which_there_are() -> None:
    with pytest.raises(OptionError) as caught:
        find("Headless")
    assert str(caught.value) == (
        "--grpclb-strategy: 'Headless' cannot be used; expected one of headless, clusterip, "
        "lookaside, grpclb, envoy-sidecar, ingress-nginx, all"
    )


@each_dialled_by_name
@pytest.mark.parametrize("release", ["grpclb", "r" * 53])
def test_what_clients_dial_is_what_the_chart_makes(strategy: Strategy, release: str) -> None:
    values = strategy.values(SERVICE, Settings())
    chart = strategy.chart or charts_directory() / "strategy"
    manifests = render(chart, values=values, release=release, namespace="ns")
    services = [each for each in manifests if each["kind"] == "Service"]
    [backends] = [each for each in services if each["spec"]["selector"] == {"app": "shop"}]
    [port] = backends["spec"]["ports"]
    assert port["targetPort"] == 8080

    target = strategy.target(SERVICE, Settings(), release=release)
    dialled = re.fullmatch(
        r"dns:///([a-z-]+)\.([a-z]+)\.svc\.cluster\.local\.:([0-9]+)", target.address
    )
    assert dialled is not None
    name, *rest = dialled.groups()
    assert name in [each["metadata"]["name"] for each in services]
    assert rest == ["ns", str(port["port"])]


@each_dialled_by_name
def test_servers_are_told_the_name_as_people_write_it(strategy: Strategy) -> None:
    target = strategy.target(SERVICE, Settings(), release="rel")
    assert dict(target.arguments)["grpc.default_authority"] == (
        f"rel-{strategy.name}.ns.svc.cluster.local:8080"
    )


@each_strategy
def test_clients_notice_changes_as_soon_as_the_settings_say(strategy: Strategy) -> None:
    target = strategy.target(SERVICE, Settings(min_resolution_interval_s=0.25), release="rel")
    arguments = dict(target.arguments)
    assert len(arguments) == len(target.arguments)
    del arguments["grpc.default_authority"]
    arguments.pop("grpc.dns_enable_srv_queries", None)  # finds balancers; no matter of time
    assert arguments == {
        "grpc.dns_min_time_between_resolutions_ms": 250,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1000,
        "grpc.min_reconnect_backoff_ms": 2000,
    }


@each_strategy
def test_a_summary_is_one_short_line(strategy: Strategy) -> None:
    assert 0 < len(strategy.summary) <= 72
    assert strategy.summary.isprintable()
    assert not strategy.summary.endswith(".")


def test_strategies_import_nothing_that_acts() -> None:
    code = "import sys, pytest_grpclb.strategies; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    acting = {"grpc", "pytest", "subprocess", "socket", "kubernetes", "yaml"}
    assert acting & set(done.stdout.split()) == set()
