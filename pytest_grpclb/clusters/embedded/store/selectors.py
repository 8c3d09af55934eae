"""Label selectors and field selectors: text or object to a test of objects.

:source: Kubernetes documentation, "Labels and Selectors", "Field Selectors";
    apimachinery, ``pkg/labels/selector.go``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_grpclb.clusters.embedded.store.status import BadRequestError
from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = [
    "Test",
    "everything",
    "fields",
    "label_selector",
    "labels",
    "matches_labels",
    "selected_name",
    "selector_text",
]

Test = Callable[[Object], bool]
"""Tells whether an object is selected."""

_REQUIREMENT = re.compile(
    r"""\s*(?:
        (?P<absent>!)\s*(?P<not_key>[\w./-]+)
      | (?P<key>[\w./-]+)\s*(?:
            (?P<operator>==|=|!=|>|<)\s*(?P<value>[\w.-]*)
          | (?P<set>in|notin)\s*\((?P<values>[^()]*)\)
        )?
    )\s*(?:,|$)""",
    re.VERBOSE,
)
_FIELD = re.compile(r"\s*(?P<key>[\w.]+)\s*(?P<operator>==|=|!=)(?P<value>(?:\\.|[^,\\])*)(?:,|$)")

_FIELDS: Mapping[str, Sequence[str]] = {
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "replicasets.apps": ("status.replicas",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
}
"""Fields that a field selector may name, beside ``metadata.name`` and ``metadata.namespace``."""


def everything(_: Object) -> bool:
    """Select every object."""
    return True


def labels(text: str) -> Test:
    """Return the test that a label selector in a query stands for.

    :raises BadRequestError: if it cannot be read
    """
    tests = []
    position = 0
    while position < len(text):
        found = _REQUIREMENT.match(text, position)
        if found is None:
            raise BadRequestError(
                f"unable to parse requirement: {text[position:]!r} of the label selector {text!r}; "
                "write key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
            )
        tests.append(_requirement(found))
        position = found.end()
    return _all(tests)


def label_selector(selector: Mapping[str, Any]) -> Test:
    """Return the test that a LabelSelector object stands for; an empty one selects everything.

    :raises BadRequestError: if it has an operator that does not exist
    """
    tests = [_one_of(key, (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for requirement in selector.get("matchExpressions") or ():
        key, operator = requirement["key"], requirement["operator"]
        values = requirement.get("values") or ()
        match operator:
            case "In":
                tests.append(_one_of(key, values))
            case "NotIn":
                tests.append(_none_of(key, values))
            case "Exists":
                tests.append(_present(key))
            case "DoesNotExist":
                tests.append(_missing(key))
            case _:
                raise BadRequestError(
                    f"{operator!r} is not a label selector operator; "
                    "use In, NotIn, Exists or DoesNotExist"
                )
    return _all(tests)


def selector_text(selector: Mapping[str, Any]) -> str:
    """Write a LabelSelector object the way `labels` reads it."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for requirement in selector.get("matchExpressions") or ():
        key, values = requirement["key"], ",".join(requirement.get("values") or ())
        match requirement["operator"]:
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
            case operator:
                parts.append(f"{key} {operator.lower()} ({values})")
    return ",".join(parts)


def matches_labels(selector: Mapping[str, str], obj: Object) -> bool:
    """Tell whether an object has all labels of a plain selector, such as a Service's.

    An empty one selects nothing, as for a Service without a selector.
    """
    own = obj["metadata"].get("labels") or {}
    return bool(selector) and all(own.get(key) == value for key, value in selector.items())


def fields(kind: str, text: str) -> Test:
    """Return the test that a field selector in a query stands for.

    :raises BadRequestError: if it cannot be read, or names a field that *kind* cannot be asked for
    """
    tests = []
    position = 0
    while position < len(text):
        found = _FIELD.match(text, position)
        if found is None:
            raise BadRequestError(
                f"invalid selector: {text[position:]!r} of the field selector {text!r}; "
                "write field=value or field!=value"
            )
        key = found["key"]
        known = ("metadata.name", "metadata.namespace", *_FIELDS.get(kind, ()))
        if key not in known:
            raise BadRequestError(
                f'field label not supported: "{key}"; {kind} can be selected by {", ".join(known)}'
            )
        value = re.sub(r"\\(.)", r"\1", found["value"])
        tests.append(_field(key.split("."), value, wanted=found["operator"] != "!="))
        position = found.end()
    return _all(tests)


def selected_name(text: str) -> str:
    """Return the one name that a field selector leaves; empty if it does not say.

    A role may be for some names only: lists and watches of one of them are then allowed.
    """
    for part in text.split(","):
        field, _, value = part.replace("==", "=").partition("=")
        if field.strip() == "metadata.name":
            return value
    return ""


def _requirement(found: re.Match[str]) -> Test:
    if found["absent"]:
        return _missing(found["not_key"])
    key = found["key"]
    values = [value.strip() for value in (found["values"] or "").split(",")]
    operator = found["operator"] or found["set"]
    if operator is None:
        return _present(key)
    if operator in {"=", "=="}:
        return _one_of(key, (found["value"],))
    if operator in {"!=", "notin"}:
        return _none_of(key, values if found["set"] else (found["value"],))
    if operator == "in":
        return _one_of(key, values)
    return _compared(key, found["value"], greater=operator == ">")


def _labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _one_of(key: str, values: Sequence[str]) -> Test:
    return lambda obj: _labels_of(obj).get(key) in values


def _none_of(key: str, values: Sequence[str]) -> Test:
    return lambda obj: _labels_of(obj).get(key) not in values


def _present(key: str) -> Test:
    return lambda obj: key in _labels_of(obj)


def _missing(key: str) -> Test:
    return lambda obj: key not in _labels_of(obj)


def _compared(key: str, value: str, *, greater: bool) -> Test:
    try:
        bound = int(value)
    except ValueError:
        raise BadRequestError(
            f"{value!r} in the label selector is not a whole number; > and < compare such only"
        ) from None

    def test(obj: Object) -> bool:
        own = _labels_of(obj).get(key, "")
        if not own.lstrip("-").isdecimal():
            return False
        return int(own) > bound if greater else int(own) < bound

    return test


def _field(path: Sequence[str], value: str, *, wanted: bool) -> Test:
    def test(obj: Object) -> bool:
        found: Any = obj
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, bool):
            found = str(found).lower()
        elif found is None:
            # As Kubernetes compares them: false where a flag is absent, else the empty string.
            found = "false" if path[-1] in {"unschedulable", "hostNetwork"} else ""
        return (str(found) == value) == wanted

    return test


def _all(tests: Sequence[Test]) -> Test:
    if not tests:
        return everything
    if len(tests) == 1:
        return tests[0]
    return lambda obj: all(test(obj) for test in tests)
