"""Command line, ini settings and markers, checked and frozen before anything is started."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import OptionError
from pytest_grpclb.settings import IngressSettings, Keep, Settings

if TYPE_CHECKING:
    import pytest
    from _pytest.config.argparsing import Parser

    from pytest_grpclb.strategies import Strategy

__all__ = ["Options", "add_options", "apply_marker", "read_options", "selected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line and the ini file say together; the command line wins."""

    strategies: tuple[str, ...]
    """Names as given; "all" is not resolved yet."""
    cluster: str
    artifacts: Path | None
    embedded_images: Mapping[str, tuple[str, ...]]
    settings: Settings
    image: str
    """Of this package's own programs, REPOSITORY:TAG; empty: the cluster provider's own."""
    load_images: tuple[str, ...]
    kubeconfig: str
    context: str
    kind_image: str
    kind_config: Path | None
    kind_name: str
    ingress: str
    keep: Keep
    require: bool
    """A provider that cannot be used fails tests instead of having them skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """One option: on the command line with dashes, in the ini file with underscores."""

    name: str
    help: str
    default: str
    metavar: str | None = None
    repeatable: bool = False
    flag: bool = False

    @property
    def dest(self) -> str:
        return "grpclb_" + self.name.replace("-", "_")

    @property
    def switch(self) -> str:
        return f"--grpclb-{self.name}"


_DEFAULTS = Settings()

_OPTIONS = (
    _Option(
        name="strategy",
        metavar="NAME[,NAME...]",
        default="headless",
        repeatable=True,
        help="load-balancing strategies to test, or 'all'; tests that use the grpclb fixture run "
        "once for each",
    ),
    _Option(
        name="cluster",
        metavar="PROVIDER",
        default="embedded",
        help="where the cluster comes from: 'embedded' is a small Kubernetes on loopback",
    ),
    _Option(
        name="replicas",
        metavar="N",
        default=str(_DEFAULTS.replicas),
        help="backends that a test starts with",
    ),
    _Option(
        name="alpha",
        metavar="P",
        default=str(_DEFAULTS.alpha),
        help="probability of SKEWED for a spread that is even, per test",
    ),
    _Option(
        name="power",
        metavar="P",
        default=str(_DEFAULTS.power),
        help="probability of SKEWED for one backend at --grpclb-skew times its share",
    ),
    _Option(
        name="skew",
        metavar="FACTOR",
        default=str(_DEFAULTS.skew),
        help="the smallest skew that must be found out, as a multiple of the fair share",
    ),
    _Option(
        name="ready-timeout",
        metavar="SECONDS",
        default=str(_DEFAULTS.ready_timeout_s),
        help="how long backends may take to become ready",
    ),
    _Option(
        name="artifacts",
        metavar="DIR",
        default="",
        help="where pod logs, states and events go when a test fails",
    ),
    _Option(
        name="image",
        metavar="REPOSITORY:TAG",
        default="",
        help="the image of this package's own programs; needed for --grpclb-cluster=kubeconfig, "
        "else it is built where it is needed",
    ),
    _Option(
        name="load-image",
        metavar="REPOSITORY:TAG",
        default="",
        repeatable=True,
        help="for kind: further images of this machine that pods use; repeatable",
    ),
    _Option(
        name="kubeconfig",
        metavar="PATH",
        default="",
        help="for kubeconfig: the file; otherwise $KUBECONFIG, then ~/.kube/config",
    ),
    _Option(
        name="context",
        metavar="NAME",
        default="",
        help="for kubeconfig: the context to use; it must be named, the current one is not taken",
    ),
    _Option(
        name="ingress",
        metavar="HOST[:PORT[:HTTP_PORT]]",
        default="",
        help="for --grpclb-cluster=kubeconfig: where the cluster's ingress-nginx listens",
    ),
    _Option(
        name="kind-image",
        metavar="IMAGE",
        default="",
        help="for kind: the image of every node, in place of the one that this release is made for",
    ),
    _Option(
        name="kind-config",
        metavar="PATH",
        default="",
        help="for kind: a configuration file that the plugin's own is merged into",
    ),
    _Option(
        name="kind-name",
        metavar="NAME",
        default="",
        help="for kind: the name of the cluster; one that exists is used, and is not deleted",
    ),
    _Option(
        name="keep",
        metavar="never|on-failure|always",
        default="never",
        help="for kind and kubeconfig: what to leave in place after tests; the command that "
        "deletes it is printed",
    ),
    _Option(
        name="require",
        default="",
        flag=True,
        help="fail tests whose cluster cannot be had here, instead of skipping them",
    ),
)


def add_options(parser: Parser) -> None:
    """Declare every option, on the command line and as an ini setting of the same name."""
    group = parser.getgroup("grpclb", "gRPC load balancing on Kubernetes (pytest-grpclb)")
    for option in _OPTIONS:
        told = f"{option.help} (default: {option.default or 'none'})"
        if option.flag:
            group.addoption(
                option.switch, dest=option.dest, action="store_true", default=None, help=option.help
            )
            parser.addini(option.dest, help=option.help, default=False, type="bool")
            continue
        group.addoption(
            option.switch,
            dest=option.dest,
            metavar=option.metavar,
            action="append" if option.repeatable else "store",
            default=None,
            help=told,
        )
        parser.addini(option.dest, help=told, default=None, type="string")
    parser.addini(
        "grpclb_embedded_images",
        type="linelist",
        default=[],
        help="what runs an image on the embedded cluster, one a line: IMAGE = COMMAND ARGUMENT..., "
        "where {ip} and {port} stand for the pod's address and first container port",
    )


def read_options(config: pytest.Config) -> Options:
    """Read and check all options.

    :raises OptionError: if a value cannot be used; the message names the option, the value and
        what is expected
    """
    given = {option.name: _value(config, option) for option in _OPTIONS}
    settings = Settings(
        replicas=_whole("--grpclb-replicas", given["replicas"], least=1),
        alpha=_probability("--grpclb-alpha", given["alpha"]),
        power=_probability("--grpclb-power", given["power"]),
        skew=_number("--grpclb-skew", given["skew"], above=1),
        ready_timeout_s=_number("--grpclb-ready-timeout", given["ready-timeout"], above=0),
    )
    names = [name.strip() for text in given["strategy"] for name in text.split(",")]
    if not all(names):
        raise OptionError(
            "--grpclb-strategy", ",".join(given["strategy"]), expected="names with commas between"
        )
    if given["cluster"] == "kubeconfig":
        _check_existing(given)
    return Options(
        strategies=tuple(dict.fromkeys(names)),
        cluster=given["cluster"],
        artifacts=Path(given["artifacts"]) if given["artifacts"] else None,
        embedded_images=_images(config.getini("grpclb_embedded_images")),
        settings=settings,
        image=_image("--grpclb-image", given["image"]),
        load_images=tuple(
            _image("--grpclb-load-image", name.strip())
            for text in given["load-image"]
            for name in text.split(",")
            if name.strip()
        ),
        kubeconfig=given["kubeconfig"],
        context=given["context"],
        kind_image=given["kind-image"],
        kind_config=Path(given["kind-config"]) if given["kind-config"] else None,
        kind_name=given["kind-name"],
        ingress=_ingress_place(given["ingress"]),
        keep=_keep(given["keep"]),
        require=bool(given["require"]),
    )


def selected(options: Options, strategies: Mapping[str, Strategy]) -> tuple[str, ...]:
    """Return the strategies to run, in the order asked for, with "all" and aliases resolved.

    :raises OptionError: if a name is not known; the message lists those that are
    """
    from pytest_grpclb.strategies import find

    names: list[str] = []
    for name in options.strategies:
        names.extend(strategies if name == "all" else [find(name, strategies).name])
    return tuple(dict.fromkeys(names))


def _value(config: pytest.Config, option: _Option) -> Any:
    value = config.getoption(option.dest)
    if value is None:
        value = config.getini(option.dest) or option.default
        if option.repeatable:
            value = [value]
    return value


def _image(name: str, value: str) -> str:
    """Check that an image has a tag that stays what it is: kubelets pull "latest" each time.

    :source: Kubernetes documentation, "Images", "Default image pull policy"
    """
    repository, _, tag = value.rpartition(":")
    if value and (not repository or "/" in tag or "@" in value or tag in {"", "latest"}):
        raise OptionError(name, value, expected="REPOSITORY:TAG, with a tag other than 'latest'")
    return value


def _ingress_place(value: str) -> str:
    """Check that a host is given, alone or with one port or two; IPv6 stands in brackets."""
    if value and not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(:[0-9]{1,5}){0,2}", value):
        raise OptionError(
            "--grpclb-ingress",
            value,
            expected="HOST, HOST:PORT or HOST:PORT:HTTP_PORT; IPv6 addresses in brackets",
        )
    return value


def _check_existing(given: Mapping[str, Any]) -> None:
    """Check that a run in an existing cluster is meant to be there.

    :raises OptionError: if the context, or an image that the cluster can pull, is not named
    """
    if not given["context"]:
        raise OptionError(
            "--grpclb-context",
            "",
            expected="the name of the context to use: with --grpclb-cluster=kubeconfig none is "
            "taken by default; `kubectl config get-contexts` lists them",
        )
    if not given["image"]:
        raise OptionError(
            "--grpclb-image",
            "",
            expected="REPOSITORY:TAG of this package's programs where the cluster can pull it; "
            "`python -m pytest_grpclb.clusters.image REPOSITORY:TAG` builds it, "
            "`docker push` brings it there",
        )


def _keep(value: str) -> Keep:
    try:
        return Keep(value)
    except ValueError:
        known = ", ".join(each.value for each in Keep)
        raise OptionError("--grpclb-keep", value, expected=f"one of {known}") from None


def _number(name: str, value: Any, *, above: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not above < number < math.inf:
        raise OptionError(name, value, expected=f"a number above {above:g}")
    return number


def _probability(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < 1:
        raise OptionError(name, value, expected="a probability between 0 and 1, both excluded")
    return number


def _whole(name: str, value: Any, *, least: int) -> int:
    try:
        number = int(value) if isinstance(value, str | int) else None
    except ValueError:
        number = None
    if number is None or number < least:
        raise OptionError(name, value, expected=f"a whole number, {least} or more")
    return number


def _images(lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    images = {}
    for line in lines:
        image, equals, command = line.partition("=")
        words = shlex.split(command)
        if not (image.strip() and equals and words):
            raise OptionError(
                "grpclb_embedded_images", line, expected="IMAGE = COMMAND ARGUMENT..."
            )
        images[image.strip()] = tuple(words)
    return images


# --- markers

_Check = Callable[[str, Any], Any]


def _positive(name: str, value: Any) -> float:
    return _number(name, value, above=0)


def _positive_or_none(name: str, value: Any) -> float | None:
    return None if value is None else _positive(name, value)


def _ingress(name: str, value: Any) -> IngressSettings:
    if not isinstance(value, IngressSettings):
        raise OptionError(name, value, expected="pytest_grpclb.IngressSettings(...)")
    return value


def _count(name: str, value: Any) -> int:
    return _whole(name, value, least=1)


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(name, value, expected="True or False")
    return value


_MARKER_KEYS: Mapping[str, _Check] = {
    "replicas": _count,
    "max_connection_age_s": _positive_or_none,
    "max_connection_age_grace_s": _positive,
    "min_resolution_interval_s": _positive,
    "channels": _count,
    "concurrency": _count,
    "alpha": _probability,
    "power": _probability,
    "skew": lambda name, value: _number(name, value, above=1),
    "ready_timeout_s": _positive,
    "readiness_gate": _truth,
    "ingress": _ingress,
    "envoy_workers": _count,
}
assert _MARKER_KEYS.keys() == {each.name for each in fields(Settings)}


def apply_marker(
    settings: Settings, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> Settings:
    """Return *settings* with what a ``grpclb`` marker says instead.

    :raises OptionError: if it has a key that is not a setting, or a value that cannot be used
    """
    if arguments:
        raise OptionError(
            "marker grpclb", arguments[0], expected="keyword arguments only, such as replicas=3"
        )
    changes = {}
    for key, value in keywords.items():
        if key not in _MARKER_KEYS:
            raise OptionError("marker grpclb", key, expected=f"one of {', '.join(_MARKER_KEYS)}")
        changes[key] = _MARKER_KEYS[key](f"marker grpclb: {key}", value)
    return replace(settings, **changes)
