"""What is read of the files of a service's TLS, and what a sidecar is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trustme

from pytest_grpclb.errors import ServiceError
from pytest_grpclb.model import Service
from pytest_grpclb.sources.choice import TlsFiles
from pytest_grpclb.sources.tls import Tls, read_tls

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = Service(
    name="shop", namespace="ns", selector={"app": "shop"}, port=50051, deployment="shop"
)
VALUES = {"envoy": {"workers": 1}}


def test_files_that_fit_are_told_by_a_secret() -> None:
    tls = Tls(authority_pem=b"a" * 130_000, name="shop.example.org")
    values, [secret] = tls.proxied(VALUES, release="rel", service=SERVICE)
    assert values["envoy"] == {
        "workers": 1,
        "tls": {"secretName": "rel-envoy-tls", "name": "shop.example.org", "mutual": False},
    }
    assert secret["data"].keys() == {"ca.crt"}


def test_a_bundle_that_no_variable_holds_is_refused_with_what_to_give() -> None:
    """Such as the system's: the process could not even be started."""
    tls = Tls(authority_pem=b"a" * 219_597, certificate_pem=b"c", key_pem=b"k")
    with pytest.raises(ServiceError) as caught:
        tls.proxied(VALUES, release="rel", service=SERVICE)
    assert str(caught.value) == (
        "--grpclb-tls-ca: the sidecar is told each file in a variable, which has room for 130000 "
        "bytes; ca.crt has 219597, tls.crt has 1, tls.key has 1; give a file with the certificates "
        "alone that vouch for the service"
    )


def test_where_no_sidecar_is_nothing_is_told() -> None:
    tls = Tls(authority_pem=b"a" * 219_597)
    assert tls.proxied({"driver": {}}, release="rel", service=SERVICE) == ({"driver": {}}, [])


@pytest.mark.parametrize(
    ("swapped", "told"),
    [
        ("authority", "--grpclb-tls-ca: '{key}' has no certificate; name a PEM file that has"),
        ("certificate", "--grpclb-tls-cert: '{key}' has no certificate; name a PEM file that has"),
        ("key", "--grpclb-tls-key: '{certificate}' has no private key; name a PEM file that has"),
    ],
)
def test_files_that_were_mixed_up_are_named(tmp_path: Path, swapped: str, told: str) -> None:
    made = trustme.CA().issue_cert("client.example.org")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    made.cert_chain_pems[0].write_to_path(certificate)
    made.private_key_pem.write_to_path(key)
    right = TlsFiles(authority=certificate, certificate=certificate, key=key)
    assert read_tls(right).key_pem.startswith(b"-----BEGIN ")
    wrong = {
        "authority": replace(right, authority=key),
        "certificate": replace(right, certificate=key),
        "key": replace(right, key=certificate),
    }
    with pytest.raises(ServiceError) as caught:
        read_tls(wrong[swapped])
    assert str(caught.value) == told.format(key=key, certificate=certificate)
