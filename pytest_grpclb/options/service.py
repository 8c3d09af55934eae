"""The service under test: its options, and what they say together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import OptionError
from pytest_grpclb.options.shape import Option
from pytest_grpclb.options.values import command_words, whole
from pytest_grpclb.sources.choice import (
    AgeVariable,
    Origin,
    Probe,
    RunningService,
    ServiceChoice,
    TlsFiles,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["SERVICE_OPTIONS", "read_service"]

SERVICE_OPTIONS = (
    Option(
        name="command",
        metavar="COMMAND",
        default="",
        help="the service under test: a command, run in pytest's rootdir for each pod, where {ip} "
        "and {port} stand for where to listen; for a service that listens on all addresses, {port} "
        "alone; on other clusters than the embedded one, an image (--grpclb-service-image)",
    ),
    Option(
        name="service-image",
        metavar="IMAGE",
        default="",
        help="the service under test: an image; embedded, --grpclb-command stands for it, or "
        "grpclb_embedded_images",
    ),
    Option(
        name="chart",
        metavar="PATH",
        default="",
        help="the service under test: a Helm chart with a Deployment or StatefulSet",
    ),
    Option(
        name="values",
        metavar="FILE",
        default="",
        lines=True,
        help="values of --grpclb-chart; repeatable, the last one wins",
    ),
    Option(
        name="manifests",
        metavar="PATTERN",
        default="",
        lines=True,
        help="the service under test: Kubernetes manifests, files or patterns; beside a command or "
        "image, what else its pods need; repeatable",
    ),
    Option(
        name="service",
        metavar="NAMESPACE/NAME[:PORT]",
        default="",
        help="the service under test: a Service that runs already in the cluster of "
        "--grpclb-kubeconfig; it is only looked at, and the strategy's own objects are put beside "
        "it, labelled, and deleted after the test",
    ),
    Option(
        name="service-changes",
        default="",
        flag=True,
        help="let tests scale, kill and restart the pods of --grpclb-service",
    ),
    Option(
        name="workload",
        metavar="[KIND/]NAME",
        default="",
        help="which Deployment or StatefulSet of the chart or the manifests is under test, where "
        "there are several",
    ),
    Option(
        name="service-port",
        metavar="N",
        default="",
        help="where the pods of the service listen, if not on 50051 (a command, an image) or on "
        "their only container port, or the one named 'grpc' (a chart, manifests)",
    ),
    Option(
        name="env",
        metavar="NAME=VALUE",
        default="",
        lines=True,
        help="environment variables of a command or image; repeatable",
    ),
    Option(
        name="env-from",
        metavar="configmap/NAME|secret/NAME",
        default="",
        lines=True,
        help="config maps and secrets of --grpclb-manifests whose entries become environment "
        "variables of a command or image; repeatable",
    ),
    Option(
        name="probe",
        metavar="grpc|tcp|none",
        default="",
        help="how pods of a command or image are asked whether they are ready: by the health "
        "service (grpc), or by a connection, which is what there is where they speak TLS (tcp)",
    ),
    Option(
        name="connection-age-env",
        metavar="NAME[=TEMPLATE]",
        default="",
        help="the environment variable by which the service is told its max connection age; "
        "TEMPLATE says how, with {s} or {ms} for the number",
    ),
    Option(
        name="tls-ca",
        metavar="FILE",
        default="",
        help="the service speaks TLS itself: certificates of who vouches for it, PEM",
    ),
    Option(
        name="tls-cert",
        metavar="FILE",
        default="",
        help="for mutual TLS: the client's certificate, PEM",
    ),
    Option(name="tls-key", metavar="FILE", default="", help="for mutual TLS: the key of it, PEM"),
    Option(
        name="tls-name",
        metavar="NAME",
        default="",
        help="a name that the service's certificates have, if they have not the one that clients "
        "dial",
    ),
)

_ORIGINS = ("command", "service-image", "chart", "manifests", "service")
_ONLY_WITH: Mapping[str, tuple[str, ...]] = {
    "values": ("chart",),
    "workload": ("chart", "manifests"),
    "service-port": ("command", "service-image", "chart", "manifests"),
    "env": ("command", "service-image"),
    "env-from": ("command", "service-image"),
    "probe": ("command", "service-image"),
    "connection-age-env": ("command", "service-image", "chart", "manifests"),
    "service-changes": ("service",),
    "tls-cert": ("tls-ca",),
    "tls-key": ("tls-cert",),
    "tls-name": ("tls-ca",),
}
"""What an option says something of."""
_TOGETHER = frozenset({"command", "service-image", "manifests"})
"""A command stands for an image, and both may need other objects."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SOURCE = re.compile(r"(configmap|secret)s?/([a-z0-9][a-z0-9.-]*)")
_KINDS = {"configmap": "configMap", "secret": "secret"}
_SERVICE = re.compile(r"([a-z0-9-]+)/([a-z0-9-]+)(?::([0-9]+))?")


def read_service(
    given: Mapping[str, Any], *, cluster: str, skipped_kinds: Sequence[str], root: Path
) -> ServiceChoice:
    """Return what the options say of the service under test.

    :param given: by name of the option
    :param cluster: the provider's name
    :param root: what paths are relative to
    :raises OptionError: if they cannot be used, or not together
    """
    origin = _origin(given)
    _check_together(given)
    _check_cluster(given, cluster)
    chart = root / given["chart"] if given["chart"] else None
    if chart is not None and not chart.exists():
        raise OptionError(
            "--grpclb-chart", given["chart"], expected=f"a Helm chart, seen from {str(root)!r}"
        )
    port = given["service-port"]
    return ServiceChoice(
        origin=origin,
        image=given["service-image"],
        command=command_words("--grpclb-command", given["command"]),
        port=whole("--grpclb-service-port", port, least=1) if port else None,
        environment=dict(_variable(line) for line in given["env"]),
        environment_from=tuple(_source(line) for line in given["env-from"]),
        probe=_probe(given),
        chart=chart,
        values=tuple(root / line for line in given["values"]),
        manifests=tuple(given["manifests"]),
        skipped_kinds=frozenset(skipped_kinds),
        workload=given["workload"],
        connection_age=_age_variable(given["connection-age-env"]),
        running=_running(given["service"], may_change=bool(given["service-changes"])),
        tls=_tls(given, root),
        root=root,
    )


def _origin(given: Mapping[str, Any]) -> Origin:
    named = [name for name in _ORIGINS if given[name]]
    if len(named) > 1 and not set(named) <= _TOGETHER:
        raise OptionError(
            f"--grpclb-{named[-1]}",
            _shown(given[named[-1]]),
            expected=f"to be left out where --grpclb-{named[0]} says what the service under test is"
            "; it is one of a command or image, a chart, manifests, and a running service",
        )
    if given["command"] or given["service-image"]:
        return Origin.IMAGE
    return {
        (): Origin.SAMPLE,
        ("chart",): Origin.CHART,
        ("manifests",): Origin.MANIFESTS,
        ("service",): Origin.RUNNING,
    }[tuple(named)]


def _check_together(given: Mapping[str, Any]) -> None:
    for name, others in _ONLY_WITH.items():
        if given[name] and not any(given[other] for other in others):
            needed = " or ".join(f"--grpclb-{other}" for other in others)
            raise OptionError(
                f"--grpclb-{name}", _shown(given[name]), expected=f"{needed} beside it"
            )
    if given["workload"] and (given["command"] or given["service-image"]):
        raise OptionError(
            "--grpclb-workload",
            given["workload"],
            expected="to be left out: the workload of a command or image is made for it",
        )
    if given["tls-cert"] and not given["tls-key"]:
        raise OptionError(
            "--grpclb-tls-cert", given["tls-cert"], expected="--grpclb-tls-key beside it"
        )


def _check_cluster(given: Mapping[str, Any], cluster: str) -> None:
    if given["service"] and cluster == "embedded":
        raise OptionError(
            "--grpclb-service",
            given["service"],
            expected="--grpclb-cluster=kubeconfig: an embedded cluster begins with no service",
        )
    if given["command"] and not given["service-image"] and cluster in {"kind", "kubeconfig"}:
        raise OptionError(
            "--grpclb-command",
            given["command"],
            expected=f"--grpclb-service-image beside it: pods of --grpclb-cluster={cluster} run "
            "images, and a command stands for one on the embedded cluster only",
        )


def _variable(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals or not _VARIABLE.fullmatch(name.strip()):
        raise OptionError("--grpclb-env", line, expected="NAME=VALUE")
    return name.strip(), value.strip()


def _source(line: str) -> tuple[str, str]:
    found = _SOURCE.fullmatch(line.strip())
    if found is None:
        raise OptionError("--grpclb-env-from", line, expected="configmap/NAME or secret/NAME")
    return _KINDS[found[1]], found[2]


def _probe(given: Mapping[str, Any]) -> Probe:
    if not given["probe"]:
        # Kubernetes' gRPC probes speak plaintext only.
        return Probe.TCP if given["tls-ca"] else Probe.GRPC
    try:
        return Probe(given["probe"])
    except ValueError:
        known = ", ".join(each.value for each in Probe)
        raise OptionError("--grpclb-probe", given["probe"], expected=f"one of {known}") from None


def _age_variable(text: str) -> AgeVariable | None:
    if not text:
        return None
    name, equals, template = text.partition("=")
    if not _VARIABLE.fullmatch(name.strip()) or (
        equals and "{s}" not in template and "{ms}" not in template
    ):
        raise OptionError(
            "--grpclb-connection-age-env",
            text,
            expected="NAME, or NAME=TEMPLATE with {s} or {ms} in it, such as MAX_AGE={s}s",
        )
    return AgeVariable(name=name.strip(), template=template.strip() or "{s}")


def _running(text: str, *, may_change: bool) -> RunningService | None:
    if not text:
        return None
    found = _SERVICE.fullmatch(text)
    if found is None:
        raise OptionError(
            "--grpclb-service", text, expected="NAMESPACE/NAME or NAMESPACE/NAME:PORT"
        )
    return RunningService(
        namespace=found[1],
        name=found[2],
        port=int(found[3]) if found[3] else None,
        may_change=may_change,
    )


def _tls(given: Mapping[str, Any], root: Path) -> TlsFiles | None:
    # Whether they are there is not asked yet: a fixture may write throw-away certificates.
    if not given["tls-ca"]:
        return None
    return TlsFiles(
        authority=root / given["tls-ca"],
        certificate=root / given["tls-cert"] if given["tls-cert"] else None,
        key=root / given["tls-key"] if given["tls-key"] else None,
        name=given["tls-name"],
    )


def _shown(value: str | Iterable[str] | bool) -> str:
    if isinstance(value, bool):
        return "yes"
    return value if isinstance(value, str) else ", ".join(value)
