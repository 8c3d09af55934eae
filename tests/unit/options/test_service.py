"""What the options say of the service under test, and what they cannot say together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pytest_grpclb.errors import OptionError
from pytest_grpclb.options.service import SERVICE_OPTIONS, read_service
from pytest_grpclb.sources.choice import AgeVariable, Origin, Probe, RunningService, ServiceChoice

ROOT = Path("/repo")
NOTHING: dict[str, Any] = {
    option.name: [] if option.lines else False if option.flag else "" for option in SERVICE_OPTIONS
}


def read(cluster: str = "embedded", root: Path = ROOT, **given: Any) -> ServiceChoice:
    named = {name.replace("_", "-"): value for name, value in given.items()}
    return read_service(NOTHING | named, cluster=cluster, skipped_kinds=(), root=root)


def test_nothing_said_means_the_sample() -> None:
    assert read() == ServiceChoice(root=ROOT)


def test_a_command_is_split_as_a_shell_would() -> None:
    choice = read(
        command="python -m shop --name 'a shop' {ip}:{port}",
        service_port="8080",
        env=["A=1", "B = x=y"],
        env_from=["configmap/shop", "secrets/shop-tls"],
        probe="tcp",
        connection_age_env="MAX_AGE={s}s",
        manifests=["k8s/config.yaml"],
    )
    assert choice == ServiceChoice(
        origin=Origin.IMAGE,
        command=("python", "-m", "shop", "--name", "a shop", "{ip}:{port}"),
        port=8080,
        environment={"A": "1", "B": "x=y"},
        environment_from=(("configMap", "shop"), ("secret", "shop-tls")),
        probe=Probe.TCP,
        connection_age=AgeVariable(name="MAX_AGE", template="{s}s"),
        manifests=("k8s/config.yaml",),
        root=ROOT,
    )


@pytest.mark.parametrize(("wrong", "meant"), [("prt", "port"), ("ports", "port"), ("rot", "root")])
def test_a_placeholder_that_is_misspelt_is_named_with_the_one_that_is_meant(
    wrong: str, meant: str
) -> None:
    command = f"shop --listen {{ip}}:{{{wrong}}}"
    with pytest.raises(OptionError) as caught:
        read(command=command)
    assert str(caught.value) == (
        f"--grpclb-command: {command!r} cannot be used; expected {{{meant}}}, and no {{{wrong}}} "
        "(a command that has it in its own syntax can stand in a script)"
    )


@pytest.mark.parametrize("syntax", ["${port}", "{}", "{name}", '{"sku": 1}', "{{ip}}:{port}"])
def test_braces_that_mean_something_else_are_the_commands_own(syntax: str) -> None:
    assert read(command=f"shop --to='{syntax}'").command[-1] == f"--to={syntax}"


@pytest.mark.parametrize(
    "command", ["shop {addr}:{port}", "shop {ip} {PORT}", "shop --to={pod_ip}:{port}"]
)
def test_a_placeholder_that_is_none_is_named(command: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(command=command)
    wrong = {"{addr}", "{PORT}", "{pod_ip}"} & set(re.findall(r"\{\w+\}", command))
    assert str(caught.value) == (
        f"--grpclb-command: {command!r} cannot be used; expected {{ip}} and {{port}} where its "
        f"pod's address and port are to be, and no {wrong.pop()} (a command that has it in its own "
        "syntax can stand in a script)"
    )


@pytest.mark.parametrize(
    "command",
    [
        "sh -c 'serve ${HOST}'",
        "serve --log={message} {port}",
        "serve --listen={ip}:{port} --log='{host} {msg}'",
    ],
)
def test_other_braces_are_the_command_s_own(command: str) -> None:
    assert read(command=command).command


def test_a_command_may_stand_for_an_image() -> None:
    choice = read("kind", command="shop {ip}", service_image="shop:1")
    assert (choice.origin, choice.image, choice.command) == (
        Origin.IMAGE,
        "shop:1",
        ("shop", "{ip}"),
    )


@pytest.mark.parametrize(
    ("age_s", "template", "expected"),
    [(1.5, "{s}", "1.5"), (30, "{s}s", "30s"), (1, "{ms}", "1000")],
)
def test_an_age_is_written_as_the_service_wants_it(
    age_s: float, template: str, expected: str
) -> None:
    assert AgeVariable(name="A", template=template).value(age_s) == expected


def test_tls_makes_the_probe_a_connection() -> None:
    choice = read(command="shop", tls_ca="ca.pem", tls_cert="c.pem", tls_key="k.pem", tls_name="n")
    assert choice.probe is Probe.TCP
    assert choice.tls is not None
    assert (choice.tls.authority, choice.tls.key) == (ROOT / "ca.pem", ROOT / "k.pem")


def test_a_running_service_is_named_with_its_namespace() -> None:
    choice = read("kubeconfig", service="prod/shop:443", service_changes=True)
    assert choice.running == RunningService(
        namespace="prod", name="shop", port=443, may_change=True
    )


def test_a_chart_is_looked_for_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "charts").mkdir()
    choice = read(root=tmp_path, chart="charts", values=["a.yaml"], workload="Deployment/shop")
    assert (choice.chart, choice.values) == (tmp_path / "charts", (tmp_path / "a.yaml",))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"command": "shop", "service": "prod/shop"},
            "--grpclb-service: 'prod/shop' cannot be used; expected to be left out where "
            "--grpclb-command says what the service under test is; it is one of a command or "
            "image, a chart, manifests, and a running service",
        ),
        (
            {"chart": "chart", "manifests": ["a.yaml", "b.yaml"]},
            "--grpclb-manifests: 'a.yaml, b.yaml' cannot be used; expected to be left out where "
            "--grpclb-chart says what the service under test is; it is one of a command or image, "
            "a chart, manifests, and a running service",
        ),
        (
            {"values": ["v.yaml"]},
            "--grpclb-values: 'v.yaml' cannot be used; expected --grpclb-chart beside it",
        ),
        (
            {"manifests": ["m.yaml"], "probe": "tcp"},
            "--grpclb-probe: 'tcp' cannot be used; expected --grpclb-command or "
            "--grpclb-service-image beside it",
        ),
        (
            {"command": "shop", "manifests": ["m.yaml"], "workload": "shop"},
            "--grpclb-workload: 'shop' cannot be used; expected to be left out: the workload of a "
            "command or image is made for it",
        ),
        (
            {"service_changes": True},
            "--grpclb-service-changes: 'yes' cannot be used; expected --grpclb-service beside it",
        ),
        (
            {"command": "shop", "tls_ca": "ca", "tls_cert": "c"},
            "--grpclb-tls-cert: 'c' cannot be used; expected --grpclb-tls-key beside it",
        ),
        (
            {"service": "prod/shop"},
            "--grpclb-service: 'prod/shop' cannot be used; expected --grpclb-cluster=kubeconfig: "
            "an embedded cluster begins with no service",
        ),
        (
            {"cluster": "kind", "command": "shop"},
            "--grpclb-command: 'shop' cannot be used; expected --grpclb-service-image beside it: "
            "pods of --grpclb-cluster=kind run images, and a command stands for one on the "
            "embedded cluster only",
        ),
        (
            {"cluster": "kubeconfig", "service": "shop"},
            "--grpclb-service: 'shop' cannot be used; expected NAMESPACE/NAME or "
            "NAMESPACE/NAME:PORT",
        ),
        (
            {"command": "shop 'x"},
            '--grpclb-command: "shop \'x" cannot be used; expected words as a shell would read '
            "them (No closing quotation)",
        ),
        (
            {"command": "shop", "env": ["PORT"]},
            "--grpclb-env: 'PORT' cannot be used; expected NAME=VALUE",
        ),
        (
            {"command": "shop", "env_from": ["shop"]},
            "--grpclb-env-from: 'shop' cannot be used; expected configmap/NAME or secret/NAME",
        ),
        (
            {"command": "shop", "probe": "http"},
            "--grpclb-probe: 'http' cannot be used; expected one of grpc, tcp, none",
        ),
        (
            {"command": "shop", "service_port": "0"},
            "--grpclb-service-port: '0' cannot be used; expected a whole number, 1 or more",
        ),
        (
            {"command": "shop", "connection_age_env": "AGE=30"},
            "--grpclb-connection-age-env: 'AGE=30' cannot be used; expected NAME, or "
            "NAME=TEMPLATE with {s} or {ms} in it, such as MAX_AGE={s}s",
        ),
        (
            {"chart": "nowhere"},
            "--grpclb-chart: 'nowhere' cannot be used; expected a Helm chart, seen from '/repo'",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_can(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(**given)
    assert str(caught.value) == message
