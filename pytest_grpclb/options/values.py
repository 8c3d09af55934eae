"""Checks of single values, for options and markers alike."""

from __future__ import annotations

import math
import re
import shlex
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import OptionError

__all__ = [
    "command_words",
    "header_key",
    "image_name",
    "method_name",
    "number",
    "pairs",
    "probability",
    "whole",
]

if TYPE_CHECKING:
    from collections.abc import Iterable

_METHOD = re.compile(r"/?[A-Za-z_][\w.]*/[A-Za-z_]\w*")
_KEY = re.compile(r"[0-9a-z_.-]+")
_PLACEHOLDERS = ("ip", "port", "root")
_MEANT = {
    "{ip}": re.compile(r"(?<![${])\{(addr|address|host|hostname|listen|ip|pod_?ip)\}", re.I),
    "{port}": re.compile(r"(?<![${])\{(port|pod_?port|grpc_?port)\}", re.I),
}
"""What people write who mean a placeholder; where that stands too, braces are the command's own."""


def command_words(name: str, text: str) -> tuple[str, ...]:
    """Return the words of a command, as a shell would read them.

    :raises OptionError: if they cannot be read, or a placeholder is none; the message calls the
        command *name*
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise OptionError(
            name, text, expected=f"words as a shell would read them ({error})"
        ) from error
    for placeholder, meant in _MEANT.items():
        found = meant.search(text)
        if found and placeholder not in text:
            raise OptionError(
                name,
                text,
                expected=f"{{ip}} and {{port}} where its pod's address and port are to be, and no "
                f"{found[0]} (a command that has it in its own syntax can stand in a script)",
            )
    for word in re.findall(r"(?<![${])\{([a-z_]+)\}", text):
        if word in _PLACEHOLDERS:
            continue
        from difflib import get_close_matches

        if near := get_close_matches(word, _PLACEHOLDERS, n=1, cutoff=0.7):
            raise OptionError(
                name,
                text,
                expected=f"{{{near[0]}}}, and no {{{word}}} (a command that has it in its own "
                "syntax can stand in a script)",
            )
    return words


def method_name(name: str, value: Any) -> str:
    """Return *value* as the name of a method; empty: none.

    :raises OptionError: if it is none; the message calls it *name*
    """
    if not isinstance(value, str) or (value and not _METHOD.fullmatch(value)):
        raise OptionError(name, value, expected="package.Service/Method")
    return value


def image_name(name: str, value: str, *, digest: bool = False) -> str:
    """Return *value* if it is an image that stays what it is: kubelets pull "latest" each time.

    :param digest: whether a digest does; what is loaded into nodes has there another one, or none
    :raises OptionError: if it is none; the message calls it *name*
    :source: Kubernetes documentation, "Images", "Default image pull policy"
    """
    if digest and re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", value):
        return value
    repository, _, tag = value.rpartition(":")
    if value and (not repository or "/" in tag or "@" in value or tag in {"", "latest"}):
        other = ", or REPOSITORY@sha256:DIGEST" if digest else ""
        raise OptionError(
            name, value, expected=f"REPOSITORY:TAG, with a tag other than 'latest'{other}"
        )
    return value


def header_key(name: str, value: Any) -> str:
    """Return *value* as a metadata key; empty: none.

    :raises OptionError: if it is none; the message calls it *name*
    """
    if not isinstance(value, str) or (value and not _KEY.fullmatch(value)):
        raise OptionError(name, value, expected="lower-case letters, digits, _ . -")
    return value


def pairs(name: str, values: Iterable[tuple[Any, Any]]) -> tuple[tuple[str, str], ...]:
    """Return *values* as metadata that text can be sent as.

    :raises OptionError: if a key or a value cannot be sent; the message calls them *name*
    """
    made = []
    for key, value in values:
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key.endswith("-bin"):
            raise OptionError(
                name, key, expected="a key of lower-case letters, digits, _ . -; no -bin"
            )
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise OptionError(name, value, expected=f"printable ASCII as the value of {key}")
        made.append((key, value))
    return tuple(made)


def number(name: str, value: Any, *, above: float) -> float:
    """Return *value* as a finite number above *above*.

    :raises OptionError: if it is none; the message calls it *name*
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not above < found < math.inf:
        raise OptionError(name, value, expected=f"a number above {above:g}")
    return found


def probability(name: str, value: Any) -> float:
    """Return *value* as a number between 0 and 1, both excluded.

    :raises OptionError: if it is none; the message calls it *name*
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found < 1:
        raise OptionError(name, value, expected="a probability between 0 and 1, both excluded")
    return found


def whole(name: str, value: Any, *, least: int) -> int:
    """Return *value* as a whole number, *least* or more.

    :raises OptionError: if it is none; the message calls it *name*
    """
    try:
        found = int(value) if isinstance(value, str | int) else None
    except ValueError:
        found = None
    if found is None or found < least:
        raise OptionError(name, value, expected=f"a whole number, {least} or more")
    return found
