"""What annotations of an Ingress ask for."""

from __future__ import annotations

import pytest

from pytest_grpclb.clusters.embedded.ingress.annotations import (
    PREFIX,
    Annotations,
    read_annotations,
)


def test_without_annotations_all_is_as_ingress_nginx_has_it() -> None:
    wanted, problems = read_annotations({"example.com/other": "x"})
    assert problems == ()
    assert wanted == Annotations(
        backend_protocol="HTTP",
        ssl_redirect=True,
        force_ssl_redirect=False,
        ssl_passthrough=False,
        service_upstream=False,
        connect_timeout_s=5,
        send_timeout_s=60,
        read_timeout_s=60,
        body_size="1m",
    )


def test_each_annotation_is_read() -> None:
    wanted, problems = read_annotations(
        {
            f"{PREFIX}backend-protocol": "grpcs",
            f"{PREFIX}ssl-redirect": "false",
            f"{PREFIX}force-ssl-redirect": "true",
            f"{PREFIX}ssl-passthrough": "1",
            f"{PREFIX}service-upstream": "True",
            f"{PREFIX}proxy-connect-timeout": "7",
            f"{PREFIX}proxy-send-timeout": "8",
            f"{PREFIX}proxy-read-timeout": "3600",
            f"{PREFIX}proxy-body-size": "8M",
        }
    )
    assert problems == ()
    assert wanted == Annotations(
        backend_protocol="GRPCS",
        ssl_redirect=False,
        force_ssl_redirect=True,
        ssl_passthrough=True,
        service_upstream=True,
        connect_timeout_s=7,
        send_timeout_s=8,
        read_timeout_s=3600,
        body_size="8m",
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("backend-protocol", "H2C", "one of GRPC, GRPCS, HTTP, HTTPS"),
        ("ssl-redirect", "yes", '"true" or "false"'),
        ("proxy-read-timeout", "60s", "whole seconds without a unit"),
        ("proxy-body-size", "1m; return 200", 'a size such as "1m"; "0" is no limit'),
        ("proxy-body-size", "1000000000g", 'a size such as "1m"; "0" is no limit'),
    ],
)
def test_a_value_that_cannot_be_used_leaves_the_default(
    name: str, value: str, expected: str
) -> None:
    wanted, problems = read_annotations({f"{PREFIX}{name}": value})
    assert wanted == Annotations()
    assert problems == (
        f"annotation {PREFIX}{name}: {value!r} cannot be used; expected {expected}; "
        "the default holds",
    )


@pytest.mark.parametrize(
    "name", ["proxy-ssl-verify", "proxy-next-upstream", "proxy-next-upstream-tries"]
)
def test_what_does_nothing_for_grpc_is_said_to_do_nothing(name: str) -> None:
    assert read_annotations({f"{PREFIX}{name}": "on"}) == (
        Annotations(),
        (f"annotation {PREFIX}{name} has no effect on gRPC: ingress-nginx renders nothing for it",),
    )


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    assert read_annotations({f"{PREFIX}canary": "true"})[1] == (
        f"annotation {PREFIX}canary is not known to the embedded ingress and has no effect here",
    )
