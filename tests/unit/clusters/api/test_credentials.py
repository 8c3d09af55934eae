"""Which program gives the credentials of a context, and whose fault a refusal is."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.credentials import (
    CredentialPlugin,
    credential_plugin,
    overheard,
)

if TYPE_CHECKING:
    from pathlib import Path

AWS = CredentialPlugin(command="aws")
ANONYMOUS = 'namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces"'


def kubeconfig(path: Path, user: dict[str, Any], *, context: str = "work") -> Path:
    contexts = [{"name": context, "context": {"cluster": "c", "user": "me"}}]
    path.write_text(json.dumps({"contexts": contexts, "users": [{"name": "me", "user": user}]}))
    return path


def test_the_first_file_that_names_a_user_counts(tmp_path: Path) -> None:
    first = kubeconfig(tmp_path / "a", {"exec": {"command": "aws", "installHint": "pip"}})
    second = kubeconfig(tmp_path / "b", {"token": "t"}, context="home")
    joined = type(first)(f"{first}:{tmp_path / 'missing'}:{second}")
    found = CredentialPlugin(command="aws", install_hint="pip")
    assert credential_plugin(joined, "work") == found
    assert credential_plugin(joined, "home") == found
    assert credential_plugin(second, "home") is None
    assert credential_plugin(first, "other") is None


def test_what_it_has_said_to_the_terminal_is_not_known() -> None:
    # The client, of 25.3 to 37, where standard output is a terminal.
    assert AWS.failure("'NoneType' object has no attribute 'strip'") == (
        "the credential plugin 'aws' of the kubeconfig gave no credential: it does not say why, or "
        "has said so on the terminal; log in again, or, if it is not there, install it"
    )


def test_only_strangers_are_refused_for_want_of_a_credential() -> None:
    assert AWS.explain(403, "User jane cannot list", "") == "User jane cannot list"
    assert AWS.explain(403, ANONYMOUS, "it failed") == f"{ANONYMOUS}; it failed"
    assert AWS.explain(401, "Unauthorized", "") == (
        "Unauthorized; the credential plugin 'aws' of the kubeconfig gave this credential; log in "
        "again where it has expired"
    )


def test_only_errors_of_this_thread_are_heard() -> None:
    with overheard() as heard:
        other = threading.Thread(target=logging.error, args=("not this",))
        other.start()
        other.join()
        logging.warning("nor this")
        logging.error("but %s", "this")
    logging.error("nor what comes later")
    assert heard == ["but this"]
