"""What names, labels and ports may look like.

:source: RFC 1123 and RFC 1035 as apimachinery, ``pkg/util/validation``, reads them
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["dns_label", "dns_subdomain", "label_problems", "path_segment", "service_name"]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
LABEL_LIMIT = 63
SUBDOMAIN_LIMIT = 253


def dns_label(name: str) -> str:
    """Say what is wrong with a name that has to be a label of a DNS name; empty: nothing."""
    if len(name) > LABEL_LIMIT:
        return f"must be no more than {LABEL_LIMIT} characters"
    if re.fullmatch(_LABEL, name):
        return ""
    return (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
        "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
        f"used for validation is '{_LABEL}')"
    )


def dns_subdomain(name: str) -> str:
    """Say what is wrong with a name that has to be a DNS name; empty: nothing."""
    if len(name) > SUBDOMAIN_LIMIT:
        return f"must be no more than {SUBDOMAIN_LIMIT} characters"
    if re.fullmatch(_SUBDOMAIN, name):
        return ""
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
        "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex "
        f"used for validation is '{_SUBDOMAIN}')"
    )


def service_name(name: str) -> str:
    """Say what is wrong with the name of a Service; empty: nothing."""
    if len(name) > LABEL_LIMIT:
        return f"must be no more than {LABEL_LIMIT} characters"
    if re.fullmatch(_LABEL_1035, name):
        return ""
    return (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
        "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
        f"'abc-123', regex used for validation is '{_LABEL_1035}')"
    )


def path_segment(name: str) -> str:
    """Say what is wrong with a name that only has to fit into a URL; empty: nothing."""
    if name in {".", ".."}:
        return f"may not be '{name}'"
    for character in "/%":
        if character in name:
            return f"may not contain '{character}'"
    return ""


def label_problems(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what is wrong with labels: the key or value at fault, and why."""
    problems = []
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if slash and dns_subdomain(prefix):
            problems.append((key, f"prefix part {dns_subdomain(prefix)}"))
        if len(name) > LABEL_LIMIT or not re.fullmatch(_QUALIFIED, name):
            problems.append(
                (
                    key,
                    "name part must consist of alphanumeric characters, '-', '_' or '.', and must "
                    "start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  "
                    f"or '123-abc', regex used for validation is '{_QUALIFIED}') and be no more "
                    f"than {LABEL_LIMIT} characters",
                )
            )
        if len(value) > LABEL_LIMIT or not re.fullmatch(_VALUE, value):
            problems.append(
                (
                    value,
                    "a valid label must be an empty string or consist of alphanumeric characters, "
                    "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
                    f"'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                    f"'{_VALUE}') and be no more than {LABEL_LIMIT} characters",
                )
            )
    return problems
