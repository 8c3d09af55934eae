"""The marker ``grpclb``: what one test asks for instead of the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from pytest_grpclb.errors import OptionError
from pytest_grpclb.options.values import (
    header_key,
    method_name,
    number,
    pairs,
    probability,
    whole,
)
from pytest_grpclb.settings import IngressSettings, Settings, status_codes

__all__ = ["apply_marker"]

_Check = Callable[[str, Any], Any]


def _positive(name: str, value: Any) -> float:
    return number(name, value, above=0)


def _positive_or_none(name: str, value: Any) -> float | None:
    return None if value is None else _positive(name, value)


def _ingress(name: str, value: Any) -> IngressSettings:
    if not isinstance(value, IngressSettings):
        raise OptionError(name, value, expected="pytest_grpclb.IngressSettings(...)")
    return value


def _count(name: str, value: Any) -> int:
    return whole(name, value, least=1)


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(name, value, expected="True or False")
    return value


def _request(name: str, value: Any) -> Any:
    if not (value is None or isinstance(value, dict | bytes)):
        raise OptionError(name, value, expected="a JSON object, such as {'id': '42'}, or bytes")
    return value


def _metadata(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    return pairs(name, value.items() if isinstance(value, Mapping) else value)


def _codes(name: str, value: Any) -> tuple[int, ...]:
    return status_codes(name, [value] if isinstance(value, str) else value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise OptionError(name, value, expected="the name of a field, such as 'pod.uid'")
    return value


_MARKER_KEYS: Mapping[str, _Check] = {
    "replicas": _count,
    "max_connection_age_s": _positive_or_none,
    "max_connection_age_grace_s": _positive_or_none,
    "min_resolution_interval_s": _positive,
    "channels": _count,
    "concurrency": _count,
    "alpha": probability,
    "power": probability,
    "skew": lambda name, value: number(name, value, above=1),
    "ready_timeout_s": _positive,
    "readiness_gate": _truth,
    "ingress": _ingress,
    "envoy_workers": _count,
    "method": method_name,
    "request": _request,
    "timeout_s": _positive,
    "metadata": _metadata,
    "allowed_status": _codes,
    "backend_key": header_key,
    "backend_field": _text,
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
    if "ingress" in changes:
        changes["ingress"] = changes["ingress"].over(settings.ingress)
    return replace(settings, **changes)
