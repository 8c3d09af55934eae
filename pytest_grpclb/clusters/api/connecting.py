"""How connections to an API are made: by which proxy, and with which certificates.

:source: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files"
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["configured", "prepare", "websocket_on"]

_NOBODY = "nobody.invalid"
"""A name that stands for no host: RFC 2606, section 2."""
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""The kernel finds a lost peer within 25 s, and asks more often than what stands before an API
forgets connections that are silent."""


def configured(load: Callable[[Any], None]) -> Any:
    """Return what *load* makes of a configuration of the kubernetes client, with its proxy.

    That is what the kubeconfig says, else what the environment says. The latter never holds for
    this machine's own addresses, as for kubectl: a company's proxy does not lead to them, and
    ``NO_PROXY`` seldom names all of 127.0.0.0/8.

    :source: Go, ``net/http``, ``ProxyFromEnvironment``
    """
    from kubernetes import client

    configuration = client.Configuration()
    configuration.proxy = None  # what the client takes from the environment depends on its version
    load(configuration)
    if configuration.proxy is None:
        url = urlsplit(configuration.host)
        host = url.hostname or ""
        if not _is_loopback(host) and not proxy_bypass(f"{host}:{url.port}" if url.port else host):
            configuration.proxy = getproxies().get(url.scheme)
    return configuration


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def prepare(pool: Any, *, verified: bool) -> None:
    """Have a pool's connections be made as they should.

    :param verified: whether certificates are checked
    """
    _keep_alive(pool)
    if not verified:
        _accept_unverified(pool)


def _keep_alive(pool: Any) -> None:
    """Have the kernel ask after the other end of a pool's connections while they are silent.

    A watch is silent for as long as nothing changes; whoever drops such a connection without a
    word, as address translation and load balancers do, would leave it waiting for what never comes.

    :source: tcp(7)
    """
    from urllib3.connection import HTTPConnection

    pool.connection_pool_kw["socket_options"] = [
        *HTTPConnection.default_socket_options,
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *(
            (socket.IPPROTO_TCP, getattr(socket, name), value)
            for name, value in _KEEPALIVE
            if hasattr(socket, name)  # not every system has them
        ),
    ]


def _accept_unverified(pool: Any) -> None:
    """Have a pool's connections not warn that their certificates are not checked.

    Who says ``insecure-skip-tls-verify`` in a kubeconfig knows it, and where warnings are errors
    nothing could be asked. A filter of warnings would hold for the whole process and all threads,
    and with it for connections that are none of ours.
    """
    from urllib3.connection import HTTPSConnection
    from urllib3.connectionpool import HTTPSConnectionPool

    class Accepted(HTTPSConnection):
        @property
        def is_verified(self) -> bool:
            """What urllib3 asks before it warns."""
            return True

        @is_verified.setter
        def is_verified(self, _found: bool) -> None:
            pass

    class AcceptedPool(HTTPSConnectionPool):
        ConnectionCls = Accepted

    pool.pool_classes_by_scheme = {**pool.pool_classes_by_scheme, "https": AcceptedPool}


def websocket_on(
    configuration: Any,
    pool: Any,
    path: str,
    *,
    headers: dict[str, str],
    subprotocol: str,
    timeout_s: float,
) -> Any:
    """Return an open websocket, on a connection of its own.

    :param pool: what requests go by; a websocket takes the same proxy, or none as well
    :param path: with its query
    """
    from websocket import WebSocket

    tls = {
        "cert_reqs": ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE,
        "check_hostname": configuration.verify_ssl and configuration.assert_hostname is not False,
        "ca_certs": configuration.ssl_ca_cert,
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        # Clients before 26.1 read no tls-server-name from a kubeconfig.
        "server_hostname": getattr(configuration, "tls_server_name", None),
    }
    # Where no proxy is named, the library takes the environment's, whatever it was told beside: so
    # it is given one, and no host that goes by it.
    way: dict[str, Any] = {
        "http_proxy_host": _NOBODY,
        "http_proxy_port": 1,
        "http_no_proxy": ["*"],
    }
    if pool.proxy is not None:
        way = {
            "http_proxy_host": pool.proxy.host,
            "http_proxy_port": pool.proxy.port,
            "http_no_proxy": [_NOBODY],
        }
        if pool.proxy.auth:
            name, _, password = pool.proxy.auth.partition(":")
            way["http_proxy_auth"] = (unquote(name), unquote(password))
    websocket = WebSocket(sslopt={name: value for name, value in tls.items() if value is not None})
    websocket.connect(  # type: ignore[no-untyped-call]
        "ws" + configuration.host.removeprefix("http") + path,
        header=headers,
        subprotocols=[subprotocol],
        suppress_origin=True,
        timeout=timeout_s,
        **way,
    )
    websocket.settimeout(None)
    return websocket
