"""The text of nginx.conf, held to what ingress-nginx renders for gRPC and to what it does not."""

from __future__ import annotations

import re
from functools import partial

import pytest

from pytest_grpclb.clusters.embedded.ingress.configuration import (
    Configuration,
    Location,
    Passthrough,
    Server,
    ServicePort,
    Upstream,
)
from pytest_grpclb.clusters.embedded.ingress.nginx_conf import Places, nginx_conf

from . import made_ingresses

PLACES = Places(http=("127.9.0.3", 80), https=("127.9.0.3", 443), inner=("127.9.0.3", 442))
NAMES = ("127.9.0.3", 53)
UPSTREAM = Upstream(
    name="ns-shop-80", leads_to=ServicePort(namespace="ns", service="shop", port="80")
)


location = partial(made_ingresses.location, upstream="ns-shop-80", protocol="GRPC")


def rendered(*locations: Location, host: str = "a.example.com", keypair: str = "ns-tls") -> str:
    server = Server(host=host, keypair=keypair, locations=locations)
    configuration = Configuration(
        servers=(Server(host="_", keypair="", locations=()), server), upstreams=(UPSTREAM,)
    )
    return nginx_conf(configuration, places=PLACES, names=NAMES)


def block(text: str, opening: str) -> list[str]:
    """Return the directives of the last block that begins so; blocks inside come as they are."""
    lines = [line.strip() for line in text.splitlines()]
    start = max(index for index, line in enumerate(lines) if line == f"{opening} {{")
    depth = 1
    inside: list[str] = []
    for line in lines[start + 1 :]:
        depth += line.endswith("{") - (line == "}")
        if depth == 0:
            return inside
        inside.append(line)
    raise AssertionError(f"{opening} is not closed")


def test_grpc_is_passed_with_the_timeouts_and_the_body_size_of_the_annotations() -> None:
    text = rendered(location(connect_timeout_s=7, read_timeout_s=3600, body_size="8m"))
    inside = [line for line in text.splitlines() if "grpc_" in line or "client_max" in line]
    assert [line.strip() for line in inside if "set_header" not in line] == [
        "client_max_body_size 8m;",
        "grpc_connect_timeout 7s;",
        "grpc_send_timeout 60s;",
        "grpc_read_timeout 3600s;",
        "grpc_pass grpc://ns-shop-80;",
    ]


@pytest.mark.parametrize(
    ("protocol", "directive"),
    [
        ("GRPC", "grpc_pass grpc://ns-shop-80;"),
        ("GRPCS", "grpc_pass grpcs://ns-shop-80;"),
        ("HTTP", "proxy_pass http://ns-shop-80;"),
        ("HTTPS", "proxy_pass https://ns-shop-80;"),
    ],
)
def test_the_backend_protocol_names_the_pass(protocol: str, directive: str) -> None:
    passes = re.findall(r"\w+_pass [^;]+;", rendered(location(protocol=protocol)))
    assert passes == [directive]


@pytest.mark.parametrize("protocol", ["GRPC", "GRPCS"])
def test_what_ingress_nginx_never_renders_for_grpc_is_not_there(protocol: str) -> None:
    text = rendered(location(protocol=protocol))
    assert not re.search(r"grpc_ssl_|grpc_next_upstream|grpc_intercept_errors|proxy_ssl_", text)


def test_endpoints_are_kept_alive_and_nobody_is_taken_out() -> None:
    assert block(rendered(location()), "upstream ns-shop-80") == [
        "zone ns-shop-80 1m;",
        "server 80.shop.ns.ingress service=endpoints resolve max_fails=0;",
        "keepalive 320;",
        "keepalive_timeout 60s;",
        "keepalive_requests 10000;",
        "keepalive_time 1h;",
    ]


def test_endpoints_are_asked_for_at_the_controller() -> None:
    inside = block(rendered(location()), "http")
    assert "resolver 127.9.0.3:53 ipv6=off;" in inside
    assert "resolver_timeout 2s;" in inside


def test_a_fixed_place_is_not_asked_for() -> None:
    upstream = Upstream(name="ns-shop-80-service", leads_to=("10.0.0.9", 80))
    text = nginx_conf(Configuration(upstreams=(upstream,)), places=PLACES, names=NAMES)
    assert block(text, "upstream ns-shop-80-service")[:1] == ["server 10.0.0.9:80 max_fails=0;"]


@pytest.mark.parametrize(
    ("tried", "status"),
    [
        ("ns-shop-80", "503"),  # nginx has not been told of any yet
        ("127.9.0.3:0", "503"),  # it has been told that there is none
        ("127.9.0.3:0, ns-shop-80", "503"),
        ("10.1.0.1:50051", "502"),
        ("10.1.0.1:50051, ns-shop-80", "502"),
        ("10.1.0.1:8080", "502"),
    ],
)
def test_no_endpoint_is_503_and_an_endpoint_that_fails_is_502(tried: str, status: str) -> None:
    text = rendered(location())
    assert block(text, "server").count("error_page 502 @unserved;") == 1
    answer = block(text, "location @unserved")
    [condition] = [line for line in answer if line.startswith("if ")]
    [pattern] = re.findall(r'"(.+)"', condition)
    assert answer == [condition, "return 503;", "}", "return 502;"]
    assert ("503" if re.search(pattern, tried) else "502") == status


def test_the_client_side_is_as_ingress_nginx_has_it() -> None:
    inside = block(rendered(location()), "http")
    for directive in (
        "http2 on;",
        "http2_max_concurrent_streams 128;",
        "keepalive_timeout 75s;",
        "keepalive_requests 1000;",
        "ssl_protocols TLSv1.2 TLSv1.3;",
    ):
        assert directive in inside


def test_old_workers_may_finish_streams_for_as_long_as_there() -> None:
    lines = rendered(location()).splitlines()
    assert "worker_shutdown_timeout 240s;" in lines
    assert "worker_processes 1;" in lines


def test_a_prefix_ends_at_a_slash_and_an_exact_path_at_its_end() -> None:
    text = rendered(location(path="/p", upstream=""), location(path="/e", exact=True, upstream=""))
    assert re.findall(r"location ([^@].*) \{", text) == [
        "/",
        '"/p/"',
        '= "/p"',
        '= "/e"',
        "/",
    ]


def test_a_backend_that_is_no_service_is_503() -> None:
    assert block(rendered(location(path="/p", exact=True, upstream="")), 'location = "/p"') == [
        "return 503;"
    ]


def test_plaintext_is_redirected_before_anything_else() -> None:
    text = rendered(location(path="/p", exact=True, upstream="", redirects=True))
    assert block(text, 'location = "/p"') == [
        "if ($scheme = http) {",
        "return 308 https://$host$request_uri;",
        "}",
        "return 503;",
    ]


def test_a_wildcard_host_is_one_label() -> None:
    text = rendered(location(), host="*.dev.example.com")
    [name] = re.findall(r'server_name "~(.+)";', text)
    assert re.fullmatch(name, "a.dev.example.com")
    assert not re.fullmatch(name, "a.b.dev.example.com")
    assert not re.fullmatch(name, "aXdevXexampleXcom")


def test_hosts_without_a_certificate_get_the_fake_one_and_no_strict_transport() -> None:
    text = rendered(location(), keypair="")
    assert re.findall(r"ssl_certificate (.+);", text) == ["keypairs/fake-certificate.pem"] * 2
    assert "Strict-Transport-Security" not in text
    assert "Strict-Transport-Security" in rendered(location())


def test_the_catch_all_server_is_the_default() -> None:
    text = rendered(location())
    assert text.count("default_server") == 2
    assert "listen 127.9.0.3:80 default_server;" in text
    assert "listen 127.9.0.3:443 default_server ssl;" in text


def test_passthrough_puts_the_choice_by_name_before_tls() -> None:
    configuration = Configuration(
        servers=(Server(host="_", keypair="", locations=()),),
        passthroughs=(Passthrough(host="a.example.com", place=("10.0.0.9", 80)),),
    )
    text = nginx_conf(configuration, places=PLACES, names=NAMES)
    assert block(text, "map $ssl_preread_server_name $leads_to") == [
        "hostnames;",
        "a.example.com 10.0.0.9:80;",
        "default 127.9.0.3:442;",
    ]
    assert "listen 127.9.0.3:442 default_server ssl;" in text
    assert block(text, "stream")[-4:] == [
        "listen 127.9.0.3:443;",
        "ssl_preread on;",
        "proxy_pass $leads_to;",
        "}",
    ]


def test_workers_keep_the_user_that_they_are_told() -> None:
    assert nginx_conf(Configuration(), places=PLACES, names=NAMES, user="root").startswith(
        'user "root";\n'
    )
    assert "user " not in nginx_conf(Configuration(), places=PLACES, names=NAMES).splitlines()[0]
