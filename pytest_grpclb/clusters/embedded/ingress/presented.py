"""Which certificate a host presents, for an Ingress that asks for TLS. Pure: reads the store.

:source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go, createServers;
    rootfs/etc/nginx/lua/lua_ingress.lua, redirect_to_https
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_grpclb.certificates import KeypairError, covers, keypair_of, secret_for
from pytest_grpclb.clusters.embedded.ingress.configuration import FAKE_KEYPAIR
from pytest_grpclb.clusters.embedded.ingress.fake import FAKE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_grpclb.certificates import Keypair
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["Presented", "presented"]

_EXPIRES_SOON = dt.timedelta(days=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a host presents, and what is to be said of it."""

    name: str = ""
    """As the keypair of a `Server`."""
    keypairs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Chain and key under that name, PEM; none where it is the fake one."""
    notes: tuple[str, ...] = ()


def presented(store: Store, ingress: Object, host: str) -> Presented:
    """Return what to present for *host*.

    Whoever asks for TLS has it, with the fake certificate if need be: then plaintext is sent to
    https as well.
    """
    entries = ingress["spec"].get("tls") or ()
    if not entries:
        return Presented()
    namespace = ingress["metadata"]["namespace"]
    secret = secret_for(entries, host, lambda name: _keypair(store, namespace, name))
    if not secret:
        lists = "no entry of spec.tls lists the host, and no certificate there covers it"
        return _fake(host, lists if secret is None else "its entry of spec.tls has no secretName")
    try:
        found = _usable(store, namespace, secret)
    except KeypairError as error:
        return _fake(host, str(error))
    if not covers(found, host):
        return _fake(
            host,
            f"the certificate in secret {secret!r} is for {', '.join(found.names) or 'no name'}, "
            f"not for {host!r}",
        )
    # Neither of the two names has such a character, so that no other two make the same.
    name = f"{namespace}_{secret}"
    notes = _age(found, store.now(), f"the certificate in secret {secret!r} for host {host!r}")
    return Presented(name=name, keypairs={name: found.pem}, notes=notes)


def _age(keypair: Keypair, now: dt.datetime, what: str) -> tuple[str, ...]:
    ends = f"{keypair.expires:%Y-%m-%d %H:%M:%S} UTC"
    if keypair.expires < now:
        return (f"{what} expired at {ends}; it is presented all the same",)
    if keypair.expires < now + _EXPIRES_SOON:
        return (f"{what} is about to expire, at {ends}",)
    return ()


def _keypair(store: Store, namespace: str, secret: str) -> Keypair | None:
    try:
        return _usable(store, namespace, secret)
    except KeypairError:
        return None


def _usable(store: Store, namespace: str, secret: str) -> Keypair:
    found = store.find("secrets", secret, namespace)
    if found is None:
        raise KeypairError(f"there is no secret {secret!r} in namespace {namespace!r}")
    try:
        return keypair_of(found)
    except KeypairError as error:
        raise KeypairError(f"secret {secret!r} cannot be used: {error}") from error


def _fake(host: str, why: str) -> Presented:
    return Presented(name=FAKE_KEYPAIR, notes=(f"host {host!r} gets the {FAKE_NAME!r}: {why}",))
