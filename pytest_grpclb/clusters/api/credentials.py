"""Credentials that another program gives: kubeconfigs name it as ``exec``, and it may fail.

The kubernetes client logs that and goes on as nobody, whom an API refuses for what looks like a
want of rights.

:source: Kubernetes documentation, "Authenticating", "client-go credential plugins";
    kubernetes client for Python, ``kubernetes.config.kube_config``
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CredentialPlugin", "credential_plugin", "is_nobody", "overheard"]

_NOBODY = "system:anonymous"
_UNSAID = "NoneType"
"""What the client itself says where the plugin has spoken to the terminal and not to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialPlugin:
    """A program that gives credentials."""

    command: str
    install_hint: str = ""
    """What the kubeconfig says to whoever has not got it."""

    def failure(self, said: str) -> str:
        """Return what to say when it has given none.

        :param said: its own message, as far as it was heard
        """
        told = said.removeprefix("exec: ")
        if not told or _UNSAID in told:
            told = "it does not say why, or has said so on the terminal"
        hint = f" ({' '.join(self.install_hint.split())})" if self.install_hint else ""
        return (
            f"the credential plugin {self.command!r} of the kubeconfig gave no credential: {told}; "
            f"log in again, or, if it is not there, install it{hint}"
        )

    def explain(self, status: int, message: str, failure: str) -> str:
        """Return what an API says, and where that is for want of a credential, whose fault it is.

        :param failure: why it gave none; empty: it gave one
        """
        if not is_nobody(status, message):
            return message
        doubt = f"the credential plugin {self.command!r} of the kubeconfig gave this credential; "
        return f"{message}; {failure or doubt + 'log in again where it has expired'}"


def credential_plugin(kubeconfig: Path, context: str) -> CredentialPlugin | None:
    """Return the plugin that the user of a context is told by; None: it has other credentials.

    :param kubeconfig: a file, or several joined as ``KUBECONFIG`` joins them
    """
    found: dict[str, dict[str, Any]] = {"contexts": {}, "users": {}}
    for path in filter(None, str(kubeconfig).split(os.pathsep)):
        try:
            text = Path(path).expanduser().read_text()
        except FileNotFoundError:  # of several, some may be missing
            continue
        read = yaml.safe_load(text) or {}
        for kind, known in found.items():
            for each in read.get(kind) or ():
                known.setdefault(each["name"], each)  # of a name, the first counts
    user = found["contexts"].get(context, {}).get("context", {}).get("user", "")
    told = (found["users"].get(user, {}).get("user") or {}).get("exec")
    if not told:
        return None
    return CredentialPlugin(command=told["command"], install_hint=told.get("installHint") or "")


def is_nobody(status: int, message: str) -> bool:
    """Tell whether an API's refusal is one of a stranger."""
    return status == 401 or (status == 403 and _NOBODY in message)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Give the errors that are logged in this thread while the block runs."""
    thread, heard = threading.get_ident(), list[str]()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            """Take down what was said."""
            if record.thread == thread:
                heard.append(record.getMessage())

    ear = Ear(logging.ERROR)
    logger = logging.getLogger()  # the client has none of its own
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)
