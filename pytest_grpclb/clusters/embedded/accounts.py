"""Service accounts: the files that pods get of theirs, and whose token a request carries.

:source: Kubernetes documentation, "Configure Service Accounts for Pods"
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, NamedTuple

from pytest_grpclb.clusters.embedded.rbac import User, service_account_user

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store import Object, Store

__all__ = ["Accounts"]


class _Account(NamedTuple):
    namespace: str
    name: str
    uid: str
    """Of the account: another of the same name is not the same."""


class Accounts:
    """Gives each account one token, which holds for as long as the account is there."""

    def __init__(self, store: Store, *, authority_pem: bytes = b"") -> None:
        """Remember where accounts are.

        :param authority_pem: the certificate that clients shall trust
        """
        self._store, self._authority_pem = store, authority_pem
        self._tokens: dict[_Account, str] = {}
        # By digest: looking a token up tells by its time at most what a digest begins with.
        self._accounts: dict[bytes, _Account] = {}

    def files(self, pod: Object) -> dict[str, bytes]:
        """Return what a pod gets of its account; nothing if it, or the account, does not want that.

        :raises NotFoundError: if there is no such account
        """
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        if spec.get("automountServiceAccountToken") is False:
            return {}
        name = spec.get("serviceAccountName") or "default"
        account = self._store.get("serviceaccounts", name, namespace)
        wanted = account.get("automountServiceAccountToken") is not False
        if not (wanted or spec.get("automountServiceAccountToken")):
            return {}
        return {
            "token": self.token(account).encode(),
            "ca.crt": self._authority_pem,
            "namespace": namespace.encode(),
        }

    def token(self, account: Object) -> str:
        """Return the token of a service account."""
        metadata = account["metadata"]
        key = _Account(metadata["namespace"], metadata["name"], metadata["uid"])
        if key not in self._tokens:
            token = self._tokens[key] = secrets.token_urlsafe(32)
            self._accounts[_digest(token)] = key
        return self._tokens[key]

    def user(self, token: str) -> User | None:
        """Return whom a token stands for; None: for nobody, or for an account that has gone."""
        account = self._accounts.get(_digest(token))
        if account is None:
            return None
        found = self._store.find("serviceaccounts", account.name, account.namespace)
        if found is None or found["metadata"]["uid"] != account.uid:
            return None
        return service_account_user(account.namespace, account.name)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
