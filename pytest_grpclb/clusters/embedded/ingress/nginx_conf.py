"""The text of ``nginx.conf``, as ingress-nginx v1.15.1 renders it, for a `Configuration`.

What it never renders is not here either: ``grpc_ssl_*`` (so the backends' certificates are not
verified), ``grpc_next_upstream``, ``grpc_intercept_errors``.

:source: ingress-nginx v1.15.1, rootfs/etc/nginx/template/nginx.tmpl and
    internal/ingress/controller/config/config.go (defaults)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.ingress.configuration import (
    CATCH_ALL,
    FAKE_KEYPAIR,
    NO_PORT,
    Configuration,
    Place,
    ServicePort,
)
from pytest_grpclb.clusters.embedded.ingress.endpoints import SERVICE, name_of
from pytest_grpclb.model import UPSTREAM_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_grpclb.clusters.embedded.ingress.configuration import Location, Server, Upstream

__all__ = ["Places", "nginx_conf"]

_CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "DHE-RSA-AES128-GCM-SHA256",
        "DHE-RSA-AES256-GCM-SHA384",
    )
)

_HEADERS = (
    ("Host", "$http_host"),
    ("X-Request-ID", "$req_id"),
    ("X-Real-IP", "$remote_addr"),
    ("X-Forwarded-For", "$remote_addr"),
    ("X-Forwarded-Host", "$http_host"),
    ("X-Forwarded-Port", "$pass_port"),
    ("X-Forwarded-Proto", "$scheme"),
    ("X-Forwarded-Scheme", "$scheme"),
    ("X-Scheme", "$scheme"),
    ("X-Original-Forwarded-For", "$http_x_forwarded_for"),
    ("Proxy", '""'),  # httpoxy
)
"""What backends are told besides the client's own headers."""


_ZONE_SIZE = "1m"
"""A pod takes less than 1 KiB of it."""

_LONGEST_NAME_SIZE = 512
"""Of a hash's bucket: room for one host name, which has up to 253 characters."""

_MAP_WORDS = frozenset({"default", "hostnames", "include", "volatile"})
"""What nginx takes for a parameter of a ``map`` where a host name stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where nginx listens."""

    http: Place
    https: Place
    inner: Place
    """Where TLS is ended while the https port is shared with hosts whose TLS is passed through."""


def nginx_conf(
    configuration: Configuration, *, places: Places, names: Place, user: str = ""
) -> str:
    """Return the configuration file; its paths are relative to nginx's own directory.

    :param names: where nginx is to ask for the endpoints of its upstreams
    :param user: who the worker runs as, where nginx is started by root; empty: who starts it
    """
    lines = [*_main(user), *_http(configuration, places, names)]
    if configuration.passthroughs:
        lines += _stream(configuration, places)
    return "\n".join(lines) + "\n"


def _main(user: str) -> Iterator[str]:
    if user:
        yield f"user {_quoted(user)};"
    yield from (
        "daemon off;",
        "pid nginx.pid;",
        "error_log stderr notice;",
        "# One, so that round robin is exact; ingress-nginx: one for each CPU.",
        "worker_processes 1;",
        "worker_shutdown_timeout 240s;",
        "events {",
        "    worker_connections 8192;",
        "    multi_accept on;",
        "}",
    )


def _http(configuration: Configuration, places: Places, names: Place) -> Iterator[str]:
    yield from (
        "http {",
        "    client_body_temp_path temp/client-body;",
        "    proxy_temp_path temp/proxy;",
        "    fastcgi_temp_path temp/fastcgi;",
        "    scgi_temp_path temp/scgi;",
        "    uwsgi_temp_path temp/uwsgi;",
        f"    resolver {_listen(names)} ipv6=off;",
        # An answer comes at once; the default of 30 s would outlive a stalled machine by as much.
        "    resolver_timeout 2s;",
        "    default_type text/html;",
        "    server_tokens off;",
        "    tcp_nopush on;",
        "    tcp_nodelay on;",
        "    reset_timedout_connection on;",
        "    server_name_in_redirect off;",
        "    port_in_redirect off;",
        "    server_names_hash_max_size 1024;",
        f"    server_names_hash_bucket_size {_LONGEST_NAME_SIZE};",
        "    variables_hash_max_size 2048;",
        "    http2 on;",
        "    http2_max_concurrent_streams 128;",
        "    keepalive_timeout 75s;",
        "    keepalive_requests 1000;",
        "    client_header_buffer_size 1k;",
        "    client_header_timeout 60s;",
        "    large_client_header_buffers 4 8k;",
        "    client_body_buffer_size 8k;",
        "    client_body_timeout 60s;",
        "    ssl_protocols TLSv1.2 TLSv1.3;",
        f"    ssl_ciphers '{_CIPHERS}';",
        "    ssl_prefer_server_ciphers on;",
        "    ssl_session_cache shared:SSL:10m;",
        "    ssl_session_timeout 10m;",
        "    ssl_session_tickets off;",
        "    ssl_buffer_size 4k;",
        "    ssl_early_data off;",
        "    map $http_x_request_id $req_id {",
        "        default $http_x_request_id;",
        '        "" $request_id;',
        "    }",
        "    map $scheme $pass_port {",
        "        https 443;",
        "        default 80;",
        "    }",
        "    map $scheme $strict_transport_security {",
        '        https "max-age=31536000; includeSubDomains";',
        "    }",
        "    log_format upstreaminfo '$remote_addr - $remote_user [$time_local] \"$request\" '",
        '        \'$status $body_bytes_sent "$http_referer" "$http_user_agent" $request_length \'',
        "        '$request_time [$proxy_upstream_name] [] $upstream_addr '",
        "        '$upstream_response_length $upstream_response_time $upstream_status $req_id';",
        "    access_log access.log upstreaminfo;",
    )
    for upstream in configuration.upstreams:
        yield from _upstream(upstream)
    inner = bool(configuration.passthroughs)
    for server in configuration.servers:
        yield from _server(server, places, inner=inner)
    yield "}"


def _upstream(upstream: Upstream) -> Iterator[str]:
    yield f"    upstream {upstream.name} {{"
    if isinstance(upstream.leads_to, ServicePort):
        yield f"        zone {upstream.name} {_ZONE_SIZE};"
        server = f"{name_of(upstream.leads_to)} service={SERVICE} resolve"
    else:
        server = _listen(upstream.leads_to)
    # ingress-nginx's own balancer takes nobody out for failures.
    yield f"        server {server} max_fails=0;"
    yield from (
        "        keepalive 320;",
        "        keepalive_timeout 60s;",
        "        keepalive_requests 10000;",
        "        keepalive_time 1h;",
        "    }",
    )


def _server(server: Server, places: Places, *, inner: bool) -> Iterator[str]:
    default = " default_server" if server.host == CATCH_ALL else ""
    yield "    server {"
    yield f"        listen {_listen(places.http)}{default};"
    yield f"        listen {_listen(places.inner if inner else places.https)}{default} ssl;"
    yield f"        server_name {_server_name(server.host)};"
    keypair = f"keypairs/{server.keypair or FAKE_KEYPAIR}.pem"
    yield f"        ssl_certificate {keypair};"
    yield f"        ssl_certificate_key {keypair};"
    yield '        set $proxy_upstream_name "-";'
    # As the ConfigMap of ingress-nginx sets it for all hosts (add-headers). Here and not for all of
    # http, since nginx forgets the headers of there where a server adds one.
    yield f"        add_header {UPSTREAM_HEADER} $upstream_addr always;"
    if server.keypair:
        yield "        add_header Strict-Transport-Security $strict_transport_security always;"
    exact = frozenset(each.path for each in server.locations if each.exact)
    for location in server.locations:
        yield from _location(location, exact)
    if not any(each.path == "/" and not each.exact for each in server.locations):
        # The default backend.
        yield from ("        location / {", "            return 404;", "        }")
    yield from _unserved()
    yield "    }"


def _unserved() -> Iterator[str]:
    """Answer 503 where there are no endpoints, which nginx itself takes for a 502.

    Before nginx is told of any there is no address; then there is the one where nobody listens.
    """
    yield "        error_page 502 @unserved;"
    yield "        location @unserved {"
    yield f'            if ($upstream_addr ~ "^[^:]*$|:{NO_PORT}\\b") {{'
    yield "                return 503;"
    yield "            }"
    yield "            return 502;"
    yield "        }"


def _location(location: Location, exact: frozenset[str]) -> Iterator[str]:
    for matched in _matched(location, exact):
        yield f"        location {matched} {{"
        if location.redirects:
            yield "            if ($scheme = http) {"
            yield "                return 308 https://$host$request_uri;"
            yield "            }"
        if location.upstream:
            yield from _pass(location)
        else:
            yield "            return 503;"
        yield "        }"


def _matched(location: Location, exact: frozenset[str]) -> tuple[str, ...]:
    """Return what follows ``location``, for each block that it takes.

    A Prefix ends at a ``/``: "/a" stands for "/a" and "/a/b", not for "/ab". nginx refuses two
    blocks for one path, and "/a" itself is that of an Exact rule, where there is one.

    :param exact: the paths of the server's Exact rules
    :source: ingress-nginx v1.15.1, internal/ingress/controller/location.go, updateServerLocations
    """
    path = location.path
    if location.exact:
        return (f"= {_quoted(path)}",)
    if path.endswith("/"):
        return (_quoted(path) if path != "/" else path,)
    below = _quoted(f"{path}/")
    return (below,) if path in exact else (below, f"= {_quoted(path)}")


def _pass(location: Location) -> Iterator[str]:
    module = "grpc" if location.protocol.startswith("GRPC") else "proxy"
    yield f"            client_max_body_size {location.body_size};"
    yield f'            set $proxy_upstream_name "{location.upstream}";'
    for name, value in _HEADERS:
        yield f"            {module}_set_header {name} {value};"
    yield f"            {module}_connect_timeout {location.connect_timeout_s}s;"
    yield f"            {module}_send_timeout {location.send_timeout_s}s;"
    yield f"            {module}_read_timeout {location.read_timeout_s}s;"
    if module == "proxy":
        yield "            proxy_http_version 1.1;"
        yield '            proxy_set_header Connection "";'
        yield "            proxy_buffering off;"
        yield "            proxy_redirect off;"
    yield f"            {module}_pass {location.protocol.lower()}://{location.upstream};"


def _stream(configuration: Configuration, places: Places) -> Iterator[str]:
    yield "stream {"
    yield f"    map_hash_bucket_size {_LONGEST_NAME_SIZE};"
    yield "    map $ssl_preread_server_name $leads_to {"
    yield "        hostnames;"
    for each in configuration.passthroughs:
        host = f"\\{each.host}" if each.host in _MAP_WORDS else each.host
        yield f"        {host} {_listen(each.place)};"
    yield f"        default {_listen(places.inner)};"
    yield "    }"
    yield "    server {"
    yield f"        listen {_listen(places.https)};"
    yield "        ssl_preread on;"
    yield "        proxy_pass $leads_to;"
    yield "    }"
    yield "}"


def _listen(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def _server_name(host: str) -> str:
    """Return a host name; a wildcard stands for one label, where nginx's own takes any number.

    :source: Kubernetes documentation, "Ingress", hostname wildcards
    """
    if not host.startswith("*."):
        return host
    return f'"~^[^.]+{re.escape(host[1:])}$"'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
