"""What the API refuses of a pod, or of a pod template.

:source: Kubernetes, ``pkg/apis/core/validation/validation.go``, ValidatePodSpec
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.store import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.embedded.store.problems import Problems
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["check_pod_spec", "check_pod_update", "port_name_problem"]

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
_HOOK_HANDLERS = ("exec", "httpGet", "sleep", "tcpSocket")
_PROBE_COUNTS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_PORT_NAME_LIMIT = 15


def check_pod_spec(spec: Object, field: str, problems: Problems) -> None:
    """Note what is wrong with a pod's spec.

    :param field: where it is in its object
    """
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    seen: set[str] = set()
    for index, volume in enumerate(spec.get("volumes", ())):
        where = f"{field}.volumes[{index}]"
        problems.text(f"{where}.name", volume["name"], names.dns_label(volume["name"]))
        problems.unique(f"{where}.name", volume["name"], seen)
        if len(volume) > 2:
            problems.forbidden(where, "may not specify more than 1 volume type")
    if not spec["containers"]:
        problems.required(f"{field}.containers")
    taken: set[str] = set()
    for key in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(key, ())):
            _check_container(container, f"{field}.{key}[{index}]", volumes, problems)
            problems.unique(f"{field}.{key}[{index}].name", container["name"], taken)
    problems.one_of(f"{field}.restartPolicy", spec["restartPolicy"], _RESTART_POLICIES)
    problems.not_negative(
        f"{field}.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"]
    )


def check_pod_update(new: Object, old: Object, problems: Problems) -> None:
    """Note a change of what cannot be changed in a pod that exists."""
    if _fixed_part(new) != _fixed_part(old):
        problems.forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
            "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
            "(allow it to be set to 1 if it was previously negative)",
        )


def port_name_problem(name: str) -> str:
    """Say what is wrong with the name of a port; empty: nothing.

    :source: RFC 6335, section 5.1 (IANA service names)
    """
    if len(name) > _PORT_NAME_LIMIT:
        return f"must be no more than {_PORT_NAME_LIMIT} characters"
    if not re.fullmatch("[-a-z0-9]+", name):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search("[a-z]", name):
        return "must contain at least one letter (a-z)"
    if "--" in name:
        return "must not contain consecutive hyphens"
    if name[0] == "-" or name[-1] == "-":
        return "must not begin or end with a hyphen"
    return ""


def _fixed_part(pod: Object) -> Object:
    spec = {
        key: value
        for key, value in pod["spec"].items()
        if key not in {"activeDeadlineSeconds", "tolerations", "nodeName"}
    }
    for key in ("containers", "initContainers"):
        spec[key] = [{**container, "image": ""} for container in spec.get(key, ())]
    return spec


def _check_container(container: Object, field: str, volumes: set[str], problems: Problems) -> None:
    problems.text(f"{field}.name", container["name"], names.dns_label(container["name"]))
    if not container.get("image"):
        problems.required(f"{field}.image")
    problems.one_of(f"{field}.imagePullPolicy", container["imagePullPolicy"], _PULL_POLICIES)
    _check_ports(container, field, problems)
    _check_env(container, field, problems)
    _check_mounts(container, field, volumes, problems)
    for key in ("startupProbe", "readinessProbe", "livenessProbe"):
        if key in container:
            _check_probe(container[key], f"{field}.{key}", problems, once=key != "readinessProbe")
    for key, hook in container.get("lifecycle", {}).items():
        if key in {"postStart", "preStop"}:
            _check_handler(hook, f"{field}.lifecycle.{key}", _HOOK_HANDLERS, problems)


def _check_env(container: Object, field: str, problems: Problems) -> None:
    for index, variable in enumerate(container.get("env", ())):
        if "=" in variable["name"]:
            problems.invalid(f"{field}.env[{index}].name", variable["name"], "may not contain '='")
        if variable.get("value") and "valueFrom" in variable:
            problems.invalid(
                f"{field}.env[{index}].valueFrom",
                "",
                "may not be specified when `value` is not empty",
            )


def _check_mounts(container: Object, field: str, volumes: set[str], problems: Problems) -> None:
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts", ())):
        where = f"{field}.volumeMounts[{index}]"
        if mount["name"] not in volumes:
            problems.not_found(f"{where}.name", mount["name"])
        if mount["mountPath"] in paths:
            problems.invalid(f"{where}.mountPath", mount["mountPath"], "must be unique")
        paths.add(mount["mountPath"])


def _check_ports(container: Object, field: str, problems: Problems) -> None:
    seen: set[str] = set()
    for index, port in enumerate(container.get("ports", ())):
        where = f"{field}.ports[{index}]"
        problems.port(f"{where}.containerPort", port["containerPort"])
        problems.one_of(f"{where}.protocol", port["protocol"], _PROTOCOLS)
        if "name" in port:
            problems.text(f"{where}.name", port["name"], port_name_problem(port["name"]))
            problems.unique(f"{where}.name", port["name"], seen)


def _check_probe(probe: Object, field: str, problems: Problems, *, once: bool) -> None:
    _check_handler(probe, field, _HANDLERS, problems)
    for key in _PROBE_COUNTS:
        problems.not_negative(f"{field}.{key}", probe.get(key))
    if once and probe["successThreshold"] != 1:
        problems.invalid(f"{field}.successThreshold", probe["successThreshold"], "must be 1")


def _check_handler(handler: Object, field: str, known: tuple[str, ...], problems: Problems) -> None:
    given = [key for key in known if key in handler]
    if not given:
        problems.required(field, "must specify a handler type")
    for key in given[1:]:
        problems.forbidden(f"{field}.{key}", "may not specify more than 1 handler type")
    for where, port in _handler_ports(handler, field):
        if isinstance(port, int):
            problems.port(where, port)
        else:
            problems.text(where, port, port_name_problem(port))


def _handler_ports(handler: Object, field: str) -> Iterator[tuple[str, int | str]]:
    for key in ("grpc", "httpGet", "tcpSocket"):
        if key in handler:
            yield f"{field}.{key}.port", handler[key]["port"]
