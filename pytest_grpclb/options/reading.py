"""What the command line and the ini file say, checked and frozen before anything is started."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import OptionError
from pytest_grpclb.options.declared import INI_ONLY, OPTIONS
from pytest_grpclb.options.own_pods import read_own_pods
from pytest_grpclb.options.service import read_service
from pytest_grpclb.options.values import (
    command_words,
    header_key,
    image_name,
    method_name,
    number,
    pairs,
    probability,
    whole,
)
from pytest_grpclb.settings import (
    IngressSettings,
    Keep,
    OwnPods,
    Settings,
    TypeSource,
    status_codes,
)
from pytest_grpclb.sources.choice import COMMAND_IMAGE, ServiceChoice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from pytest_grpclb.options.shape import Option
    from pytest_grpclb.strategies import Strategy

__all__ = ["Options", "read_options", "selected"]

_CLUSTERS_OF_THE_RUN = frozenset({"embedded", "kind"})
"""Providers that no kubeconfig leads to; what others make of one is theirs to say."""


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
    """Of this package's own programs, REPOSITORY:TAG or REPOSITORY@DIGEST; empty: the cluster
    provider's own."""
    base_image: str
    load_images: tuple[str, ...]
    kubeconfig: str
    context: str
    kind_image: str
    kind_config: Path | None
    kind_name: str
    ingress: str
    """Where the ingress of an existing cluster listens, HOST[:PORT[:HTTP_PORT]]."""
    keep: Keep
    types: TypeSource
    """Of what calls send and are answered."""
    require: bool
    """A provider that cannot be used fails tests instead of having them skipped."""
    service: ServiceChoice
    own_pods: OwnPods
    """How the pods of this package's own are."""


def read_options(config: pytest.Config) -> Options:
    """Read and check all options.

    :raises OptionError: if a value cannot be used; the message names the option, the value and
        what is expected
    """
    _check_names(config)
    given = {option.name: _value(config, option) for option in OPTIONS}
    settings = Settings(
        replicas=whole("--grpclb-replicas", given["replicas"], least=1),
        alpha=probability("--grpclb-alpha", given["alpha"]),
        power=probability("--grpclb-power", given["power"]),
        skew=number("--grpclb-skew", given["skew"], above=1),
        ready_timeout_s=number("--grpclb-ready-timeout", given["ready-timeout"], above=0),
        ingress=_ingress_settings(given),
        **_call_settings(given, config.rootpath),
    )
    names = [name.strip() for text in given["strategy"] for name in text.split(",")]
    if not all(names):
        raise OptionError(
            "--grpclb-strategy", ",".join(given["strategy"]), expected="names with commas between"
        )
    if given["cluster"] == "kubeconfig":
        _check_existing(given)
    elif given["cluster"] in _CLUSTERS_OF_THE_RUN:
        _check_meant(config, cluster=given["cluster"])
    own_pods = read_own_pods(given, cluster=given["cluster"])
    service = read_service(
        given,
        cluster=given["cluster"],
        skipped_kinds=config.getini("grpclb_skip_kinds"),
        root=config.rootpath,
    )
    service = replace(service, pull_secrets=own_pods.pull_secrets)
    return Options(
        strategies=tuple(dict.fromkeys(names)),
        cluster=given["cluster"],
        artifacts=config.rootpath / given["artifacts"] if given["artifacts"] else None,
        embedded_images=_with_command(_images(config.getini("grpclb_embedded_images")), service),
        settings=settings,
        image=image_name("--grpclb-image", given["image"], digest=True),
        base_image=_base_image(given["base-image"]),
        load_images=tuple(
            image_name("--grpclb-load-image", name.strip())
            for text in given["load-image"]
            for name in text.split(",")
            if name.strip()
        ),
        kubeconfig=_files(given["kubeconfig"], config.rootpath),
        context=given["context"],
        kind_image=given["kind-image"],
        kind_config=config.rootpath / given["kind-config"] if given["kind-config"] else None,
        kind_name=given["kind-name"],
        ingress=_ingress_place(given["ingress"]),
        keep=_keep(given["keep"]),
        types=_types(given, config.rootpath),
        require=bool(given["require"]),
        own_pods=own_pods,
        service=service,
    )


def _check_names(config: pytest.Config) -> None:
    """Check that every ini setting of this package's names is one that there is.

    pytest warns of others, and the tests would run without what they say: on the sample service,
    for example. What other plugins have added is theirs.
    """
    # Where pytest keeps them, from version 9 and before; what it tells in public are values only.
    inside = vars(config)
    for name in inside.get("_inicfg", inside.get("inicfg", ())):
        if not name.startswith("grpclb_"):
            continue
        try:
            config.getini(name)
        except ValueError:
            raise _unknown(name, config.inipath) from None


def _unknown(name: str, file: Path | None) -> OptionError:
    from difflib import get_close_matches

    known = (*(option.dest for option in OPTIONS), *INI_ONLY)
    near = get_close_matches(name, known, n=1, cutoff=0.8)
    meant = f"; did you mean {near[0]!r}?" if near else ", of those that `pytest --help` lists"
    return OptionError(
        "ini setting" if file is None else file.name, name, expected=f"a setting that exists{meant}"
    )


def _with_command(
    images: Mapping[str, tuple[str, ...]], service: ServiceChoice
) -> Mapping[str, tuple[str, ...]]:
    """Return *images* with the service's command standing for its image."""
    if not service.command:
        return images
    if service.image in images:
        raise OptionError(
            "--grpclb-command",
            shlex.join(service.command),
            expected=f"not both it and grpclb_embedded_images to stand for {service.image!r}",
        )
    return {**images, service.image or COMMAND_IMAGE: service.command}


def selected(options: Options, strategies: Mapping[str, Strategy]) -> tuple[str, ...]:
    """Return the strategies to run, in the order asked for, with "all" and aliases resolved.

    :raises OptionError: if a name is not known; the message lists those that are
    """
    from pytest_grpclb.strategies import find

    names: list[str] = []
    for name in options.strategies:
        names.extend(strategies if name == "all" else [find(name, strategies).name])
    return tuple(dict.fromkeys(names))


def _value(config: pytest.Config, option: Option) -> Any:
    value = config.getoption(option.dest)
    if value is None:
        value = config.getini(option.dest) or ([] if option.lines else option.default)
        if option.repeatable:
            value = [value]
    return value


def _call_settings(given: Mapping[str, Any], root: Path) -> dict[str, Any]:
    method = method_name("--grpclb-method", given["method"])
    if given["request"] and not method:
        raise OptionError(
            "--grpclb-request", given["request"], expected="--grpclb-method beside it"
        )
    metadata = [line.partition("=") for line in _split(given["metadata"], r"\n")]
    for key, equals, value in metadata:
        if not equals:
            raise OptionError("--grpclb-metadata", key + value, expected="KEY=VALUE")
    return {
        "method": method,
        "request": _request(given["request"], root) if given["request"] else None,
        "timeout_s": number("--grpclb-timeout", given["timeout"], above=0),
        "metadata": pairs(
            "--grpclb-metadata", [(key.strip(), value.strip()) for key, _, value in metadata]
        ),
        "allowed_status": status_codes("--grpclb-allowed-status", _split(given["allowed-status"])),
        "backend_key": header_key("--grpclb-backend-key", given["backend-key"]),
        "backend_field": given["backend-field"],
    }


def _request(text: str, root: Path) -> Any:
    """Return a request, which is JSON or the name of a file that holds it.

    :raises OptionError: if it is no JSON, or the file cannot be read
    """
    where = ""
    encoded = text
    if text.startswith("@"):
        try:
            encoded = (root / text[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or "it is no text"
            raise OptionError(
                "--grpclb-request", text, expected=f"a file of JSON that can be read: {told}"
            ) from error
        where = f"in {text[1:]} "
    try:
        return json.loads(encoded)
    except json.JSONDecodeError as error:
        told = f"{error.msg}, {where}at line {error.lineno}, column {error.colno}"
        raise OptionError("--grpclb-request", text, expected=f"JSON: {told}") from error


def _types(given: Mapping[str, Any], root: Path) -> TypeSource:
    path = tuple(root / name for name in _split(given["proto-path"]))
    protos = tuple(_proto(name, root, path) for name in _split(given["protos"]))
    descriptor_set = root / given["descriptor-set"] if given["descriptor-set"] else None
    if protos and descriptor_set:
        raise OptionError(
            "--grpclb-descriptor-set",
            given["descriptor-set"],
            expected="it, or --grpclb-protos, and not both",
        )
    return TypeSource(protos=protos, proto_path=path or (root,), descriptor_set=descriptor_set)


def _proto(name: str, root: Path, path: Sequence[Path]) -> Path:
    """Return where a file is: below *root*, or, as protoc has it, below a folder of *path*."""
    places = [root / name, *(folder / name for folder in path)]
    return next((place for place in places if place.is_file()), places[0])


def _split(texts: Sequence[str], at: str = r"[,\n]") -> list[str]:
    return [part.strip() for text in texts for part in re.split(at, text) if part.strip()]


def _base_image(value: str) -> str:
    if not re.fullmatch(r"[\w./:@-]*", value, re.ASCII):
        raise OptionError(
            "--grpclb-base-image", value, expected="an image, such as mirror/python:3.11-slim"
        )
    return value


def _files(text: str, root: Path) -> str:
    """Return paths, joined as ``KUBECONFIG`` joins them, as seen from *root*."""
    names = [name for name in text.split(os.pathsep) if name]
    return os.pathsep.join(str(root / Path(name).expanduser()) for name in names)


def _ingress_place(value: str) -> str:
    """Check that a host is given, alone or with one port or two; IPv6 stands in brackets."""
    if value and not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(:[0-9]{1,5}){0,2}", value):
        raise OptionError(
            "--grpclb-ingress",
            value,
            expected="HOST, HOST:PORT or HOST:PORT:HTTP_PORT; IPv6 addresses in brackets",
        )
    return value


def _ingress_settings(given: Mapping[str, Any]) -> IngressSettings:
    """Return the class and the host of Ingresses, where they are said.

    :raises OptionError: if one is no name
    :source: RFC 1123, section 2.1; Kubernetes documentation, "Object Names and IDs"
    """
    label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    name, host = given["ingress-class"], given["ingress-host"]
    if name and not re.fullmatch(rf"{label}(\.{label})*", name):
        raise OptionError("--grpclb-ingress-class", name, expected="the name of an IngressClass")
    if host and not re.fullmatch(rf"(\*\.)?({label}\.)+{label}", host):
        raise OptionError(
            "--grpclb-ingress-host",
            host,
            expected="a host name with a dot in it, in small letters, or *. and such a name",
        )
    return IngressSettings(class_name=name, host=host)


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


def _check_meant(config: pytest.Config, *, cluster: str) -> None:
    """Check that nobody names a cluster on the command line and gets another one.

    An ini file may name it for the runs that are to use it.

    :raises OptionError: if a kubeconfig or a context is named there, for a cluster of the run's own
    """
    for option in OPTIONS:
        if option.name in {"context", "kubeconfig"} and (value := config.getoption(option.dest)):
            raise OptionError(
                option.switch,
                value,
                expected=f"--grpclb-cluster=kubeconfig beside it; the cluster is {cluster!r}",
            )


def _keep(value: str) -> Keep:
    try:
        return Keep(value)
    except ValueError:
        known = ", ".join(each.value for each in Keep)
        raise OptionError("--grpclb-keep", value, expected=f"one of {known}") from None


def _images(lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    images = {}
    for line in lines:
        image, equals, command = line.partition("=")
        words = command_words("grpclb_embedded_images", command)
        if not (image.strip() and equals and words):
            raise OptionError(
                "grpclb_embedded_images", line, expected="IMAGE = COMMAND ARGUMENT..."
            )
        images[image.strip()] = words
    return images
