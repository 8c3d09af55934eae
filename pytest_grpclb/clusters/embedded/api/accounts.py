"""Service accounts: the files that pods get of theirs, and whose token a request carries.

:source: Kubernetes documentation, "Configure Service Accounts for Pods"
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_grpclb.clusters.embedded.api.decoding import decode
from pytest_grpclb.clusters.embedded.api.rbac import User, service_account_user
from pytest_grpclb.clusters.embedded.store.status import Cause, InvalidError
from pytest_grpclb.clusters.embedded.store.store import timestamp

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.store import Object, Store

__all__ = ["Accounts"]


_SHORTEST_S, _USUAL_S, _LONGEST_S = 600, 3600, 1 << 32
"""How long a token that was asked for may hold (``pkg/apis/authentication/validation``)."""


class _Account(NamedTuple):
    namespace: str
    name: str
    uid: str
    """Of the account: another of the same name is not the same."""


class _Grant(NamedTuple):
    account: _Account
    expires: datetime | None
    """None: the pods' own, which the kubelet would renew in time."""


class Accounts:
    """Gives tokens to pods and to those who ask for one; none outlives its account."""

    def __init__(self, store: Store, *, authority_pem: bytes = b"") -> None:
        """Remember where accounts are.

        :param authority_pem: the certificate that clients shall trust
        """
        self._store, self._authority_pem = store, authority_pem
        self._tokens: dict[_Account, str] = {}
        # By digest: looking a token up tells by its time at most what a digest begins with.
        self._grants: dict[bytes, _Grant] = {}

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
        key = _key(account)
        if key not in self._tokens:
            self._tokens[key] = self._grant(key, None)
        return self._tokens[key]

    def request(self, account: Object, body: Any) -> Object:
        """Answer a TokenRequest: a token of its own, that ends.

        :raises BadRequestError: if it is none
        :raises InvalidError: if the token should hold for too short or too long a time
        :source: Kubernetes API reference, TokenRequest
        """
        given, _ = decode(body or {}, "TokenRequest")
        spec = given.get("spec") or {}
        seconds = spec.get("expirationSeconds", _USUAL_S)
        if not _SHORTEST_S <= seconds <= _LONGEST_S:
            limit = "less than 10 minutes" if seconds < _SHORTEST_S else "too long"
            cause = Cause("spec.expirationSeconds", f"Invalid value: {seconds}: may not be {limit}")
            raise InvalidError.of("TokenRequest", "authentication.k8s.io", "", [cause])
        key = _key(account)
        expires = self._store.now() + timedelta(seconds=seconds)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {"audiences": [], **spec, "expirationSeconds": seconds},
            "status": {
                "token": self._grant(key, expires),
                "expirationTimestamp": timestamp(expires),
            },
        }

    def _grant(self, account: _Account, expires: datetime | None) -> str:
        token = secrets.token_urlsafe(32)
        self._grants[_digest(token)] = _Grant(account, expires)
        return token

    def user(self, token: str) -> User | None:
        """Return whom a token stands for.

        None: for nobody, or for an account that has gone, or it has expired.
        """
        grant = self._grants.get(_digest(token))
        if grant is None or (grant.expires is not None and grant.expires <= self._store.now()):
            return None
        account = grant.account
        found = self._store.find("serviceaccounts", account.name, account.namespace)
        if found is None or found["metadata"]["uid"] != account.uid:
            return None
        return service_account_user(account.namespace, account.name)


def _key(account: Object) -> _Account:
    metadata = account["metadata"]
    return _Account(metadata["namespace"], metadata["name"], metadata["uid"])


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
