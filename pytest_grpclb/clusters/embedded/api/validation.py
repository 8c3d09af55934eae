"""What the API refuses, and in which words.

Objects come here decoded and with defaults, so that types are right and defaulted fields are there.

:source: Kubernetes, ``pkg/apis/{core,apps,networking,rbac}/validation/validation.go``
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.api.decoding import missing_fields
from pytest_grpclb.clusters.embedded.api.pod_validation import (
    check_pod_spec,
    check_pod_update,
    port_name_problem,
)
from pytest_grpclb.clusters.embedded.store import names
from pytest_grpclb.clusters.embedded.store.kinds import KINDS
from pytest_grpclb.clusters.embedded.store.problems import Problems
from pytest_grpclb.clusters.embedded.store.selectors import label_selector
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["validate"]

_IMMUTABLE = "field is immutable"
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_NO_PORT_NUMBER = 0


def validate(kind: str, obj: Object, old: Object | None = None) -> None:
    """Check an object before it is stored.

    :param kind: plural with group
    :param old: what it replaces; None: it is new
    :raises InvalidError: naming every field that is not as it must be
    """
    what = KINDS[kind]
    problems = Problems()
    _check_metadata(kind, obj["metadata"], problems)
    missing = missing_fields(obj, what.kind)
    problems.causes += missing
    check = _BY_KIND.get(kind)
    if check is not None and not missing:  # it reads the fields that must be given
        check(obj, old, problems)
    if problems.causes:
        name = obj["metadata"].get("name") or obj["metadata"].get("generateName", "")
        raise InvalidError.of(what.kind, what.group, name, problems.causes)


def _check_metadata(kind: str, metadata: Object, problems: Problems) -> None:
    name = metadata.get("name", "")
    prefix = metadata.get("generateName", "")
    if name:
        problems.text("metadata.name", name, _NAME_PROBLEM.get(kind, names.dns_subdomain)(name))
    elif not prefix:
        problems.required("metadata.name", "name or generateName is required")
    else:
        # What is generated ends in letters and digits, so a "-" at the end of the prefix is fine.
        why = _NAME_PROBLEM.get(kind, names.dns_subdomain)(prefix.rstrip("-") or prefix)
        problems.text("metadata.generateName", prefix, why)
    for value, why in names.label_problems(metadata.get("labels", {})):
        problems.invalid("metadata.labels", value, why)


_NAME_PROBLEM: Mapping[str, Callable[[str], str]] = {
    "clusterrolebindings.rbac.authorization.k8s.io": names.path_segment,
    "clusterroles.rbac.authorization.k8s.io": names.path_segment,
    "namespaces": names.dns_label,
    "rolebindings.rbac.authorization.k8s.io": names.path_segment,
    "roles.rbac.authorization.k8s.io": names.path_segment,
    "services": names.service_name,
}


def _check_workload(obj: Object, old: Object | None, problems: Problems) -> None:
    spec = obj["spec"]
    problems.not_negative("spec.replicas", spec["replicas"])
    problems.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    if "template" not in spec:
        problems.required("spec.template")
        return
    selector, template = spec["selector"], spec["template"]
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        problems.invalid("spec.selector", selector, "empty selector is invalid for deployment")
    labels = template.get("metadata", {}).get("labels", {})
    for value, why in names.label_problems(labels):
        problems.invalid("spec.template.metadata.labels", value, why)
    try:
        selects = label_selector(selector)({"metadata": {"labels": labels}})
    except BadRequestError as error:
        problems.invalid("spec.selector.matchExpressions", selector, error.message)
    else:
        if not selects:
            problems.invalid(
                "spec.template.metadata.labels",
                labels,
                "`selector` does not match template `labels`",
            )
    check_pod_spec(template["spec"], "spec.template.spec", problems)
    if template["spec"]["restartPolicy"] in {"OnFailure", "Never"}:
        problems.one_of(
            "spec.template.spec.restartPolicy", template["spec"]["restartPolicy"], ("Always",)
        )
    if old is not None and selector != old["spec"]["selector"]:
        problems.invalid("spec.selector", selector, _IMMUTABLE)


def _check_deployment(obj: Object, old: Object | None, problems: Problems) -> None:
    _check_workload(obj, old, problems)
    spec = obj["spec"]
    problems.not_negative("spec.revisionHistoryLimit", spec["revisionHistoryLimit"])
    problems.not_negative("spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"])
    if spec["progressDeadlineSeconds"] <= spec.get("minReadySeconds", 0):
        problems.invalid(
            "spec.progressDeadlineSeconds",
            spec["progressDeadlineSeconds"],
            "must be greater than minReadySeconds",
        )
    strategy = spec["strategy"]
    problems.one_of("spec.strategy.type", strategy["type"], ("Recreate", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate" and rolling is not None:
        problems.forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )
    elif rolling is not None:
        _check_rolling_update(rolling, problems)


def _check_stateful_set(obj: Object, old: Object | None, problems: Problems) -> None:
    _check_workload(obj, old, problems)
    spec = obj["spec"]
    problems.one_of(
        "spec.podManagementPolicy", spec["podManagementPolicy"], ("OrderedReady", "Parallel")
    )
    problems.one_of(
        "spec.updateStrategy.type", spec["updateStrategy"]["type"], ("OnDelete", "RollingUpdate")
    )
    if spec.get("volumeClaimTemplates"):
        problems.forbidden(
            "spec.volumeClaimTemplates",
            "the embedded cluster has no persistent volumes; use an emptyDir, or "
            "--grpclb-cluster=kind",
        )
    unchanged = ("podManagementPolicy", "serviceName")
    for key in unchanged if old is not None else ():
        if spec.get(key) != (old or {})["spec"].get(key):
            problems.forbidden(
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                "'template', 'updateStrategy', 'revisionHistoryLimit', "
                "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            )


def _check_rolling_update(rolling: Object, problems: Problems) -> None:
    field = "spec.strategy.rollingUpdate"
    for key in ("maxUnavailable", "maxSurge"):
        value = rolling[key]
        if isinstance(value, int):
            problems.not_negative(f"{field}.{key}", value)
        elif not re.fullmatch("[0-9]+%", value):
            problems.invalid(
                f"{field}.{key}",
                value,
                "a valid percent string must be a numeric string followed by an ending '%' "
                "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            )
    if all(rolling[key] in {0, "0%"} for key in ("maxUnavailable", "maxSurge")):
        problems.invalid(
            f"{field}.maxUnavailable",
            rolling["maxUnavailable"],
            "may not be 0 when `maxSurge` is 0",
        )


def _check_pod(obj: Object, old: Object | None, problems: Problems) -> None:
    check_pod_spec(obj["spec"], "spec", problems)
    if old is not None:
        check_pod_update(obj, old, problems)


def _check_service(obj: Object, old: Object | None, problems: Problems) -> None:
    spec = obj["spec"]
    types = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    problems.one_of("spec.type", spec["type"], types)
    problems.one_of("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        problems.required("spec.externalName")
    given = spec.get("ports", ())
    if not given and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        problems.required("spec.ports")
    _check_service_ports(given, problems)
    for value, why in names.label_problems(spec.get("selector", {})):
        problems.invalid("spec.selector", value, why)
    before = old["spec"].get("clusterIP") if old is not None else None
    if before and spec["type"] != "ExternalName" and spec.get("clusterIP") != before:
        problems.invalid("spec.clusterIP", spec.get("clusterIP"), "may not change once set")


def _check_service_ports(given: list[Object] | tuple[()], problems: Problems) -> None:
    seen_names: set[str] = set()
    seen_ports: set[tuple[int, str]] = set()
    for index, port in enumerate(given):
        where = f"spec.ports[{index}]"
        name = port.get("name", "")
        if len(given) > 1 and not name:
            problems.required(f"{where}.name")
        if name:
            problems.text(f"{where}.name", name, names.dns_label(name))
            problems.unique(f"{where}.name", name, seen_names)
        problems.port(f"{where}.port", port["port"])
        problems.one_of(f"{where}.protocol", port["protocol"], ("TCP", "UDP", "SCTP"))
        target = port["targetPort"]
        if isinstance(target, str):
            problems.text(f"{where}.targetPort", target, port_name_problem(target))
        else:
            problems.port(f"{where}.targetPort", target)
        problems.unique(where, (port["port"], port["protocol"]), seen_ports)


def _check_ingress(obj: Object, _old: Object | None, problems: Problems) -> None:
    spec = obj.get("spec", {})
    if not spec.get("rules") and not spec.get("defaultBackend"):
        problems.invalid(
            "spec", spec.get("rules", []), "either `defaultBackend` or `rules` must be specified"
        )
    if spec.get("defaultBackend"):
        _check_backend(spec["defaultBackend"], "spec.defaultBackend", problems)
    for index, rule in enumerate(spec.get("rules", ())):
        if rule.get("host"):
            host = rule["host"].removeprefix("*.")
            problems.text(f"spec.rules[{index}].host", rule["host"], names.dns_subdomain(host))
        for number, path in enumerate(rule.get("http", {}).get("paths", ())):
            where = f"spec.rules[{index}].http.paths[{number}]"
            types = ("Exact", "ImplementationSpecific", "Prefix")
            problems.one_of(f"{where}.pathType", path["pathType"], types)
            free = path["pathType"] == "ImplementationSpecific" and not path.get("path")
            if not free and not path.get("path", "").startswith("/"):
                problems.invalid(f"{where}.path", path.get("path", ""), "must be an absolute path")
            _check_backend(path["backend"], f"{where}.backend", problems)


def _check_backend(backend: Object, field: str, problems: Problems) -> None:
    service = backend.get("service")
    if (service is None) == (backend.get("resource") is None):
        problems.invalid(field, "", "exactly one of service and resource must be given")
    if service is None:
        return
    port = service.get("port", {})
    if ("name" in port) == (port.get("number", _NO_PORT_NUMBER) != _NO_PORT_NUMBER):
        problems.required(f"{field}.service.port", "either name or number")
    elif "number" in port:
        problems.port(f"{field}.service.port.number", port["number"])


def _check_data(obj: Object, old: Object | None, problems: Problems) -> None:
    for part in ("data", "binaryData"):
        for key in obj.get(part, {}):
            if not _DATA_KEY.fullmatch(key):
                problems.invalid(
                    f"{part}[{key}]",
                    key,
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
                    "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation "
                    "is '[-._a-zA-Z0-9]+')",
                )
    if old is not None and old.get("immutable"):
        for part in ("data", "binaryData", "immutable"):
            if obj.get(part) != old.get(part):
                problems.forbidden(part, "field is immutable when `immutable` is set")


def _check_secret(obj: Object, old: Object | None, problems: Problems) -> None:
    _check_data(obj, old, problems)
    if old is not None and obj["type"] != old["type"]:
        problems.invalid("type", obj["type"], _IMMUTABLE)
    if obj["type"] == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in obj.get("data", {}):
                problems.required(f"data[{key}]")


def _check_endpoint_slice(obj: Object, old: Object | None, problems: Problems) -> None:
    problems.one_of("addressType", obj["addressType"], ("FQDN", "IPv4", "IPv6"))
    if old is not None and obj["addressType"] != old["addressType"]:
        problems.invalid("addressType", obj["addressType"], _IMMUTABLE)


def _check_binding(obj: Object, old: Object | None, problems: Problems) -> None:
    if old is not None and obj["roleRef"] != old["roleRef"]:
        problems.invalid("roleRef", obj["roleRef"], "cannot change roleRef")


_BY_KIND: Mapping[str, Callable[[Object, Object | None, Problems], None]] = {
    "clusterrolebindings.rbac.authorization.k8s.io": _check_binding,
    "configmaps": _check_data,
    "deployments.apps": _check_deployment,
    "endpointslices.discovery.k8s.io": _check_endpoint_slice,
    "ingresses.networking.k8s.io": _check_ingress,
    "pods": _check_pod,
    "replicasets.apps": _check_workload,
    "statefulsets.apps": _check_stateful_set,
    "rolebindings.rbac.authorization.k8s.io": _check_binding,
    "secrets": _check_secret,
    "services": _check_service,
}
