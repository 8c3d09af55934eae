"""Without nginx, or where it does not take what Ingresses ask for."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from pytest_grpclb.asserts import (
    assert_no_failed_calls,
)
from pytest_grpclb.certificates import Authority, Keypair, tls_secret
from pytest_grpclb.clusters.api.kube import EVENTS, KubeApi
from pytest_grpclb.errors import ClusterUnavailableError
from pytest_grpclb.ingress import probes

from .ingresses import (
    INGRESSES,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.handle import Grpclb


def test_without_nginx_the_way_to_it_is_said(
    installed: Callable[..., Grpclb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_grpclb.clusters.embedded.ingress.binary.find_nginx", lambda: None)
    with pytest.raises(ClusterUnavailableError) as caught:
        installed(replicas=1)
    assert str(caught.value) == (
        "cluster provider 'embedded' cannot be used here: an ingress needs nginx, which is not "
        "here; install it with: pip install 'pytest-grpclb[ingress]'"
    )


def test_what_nginx_does_not_take_is_shown_in_its_own_words_and_others_go_on(
    installed: Callable[..., Grpclb], api: KubeApi, namespace: str
) -> None:
    """A key of 1024 bits is below OpenSSL's security level; nginx refuses the whole file."""
    grpclb = installed(replicas=1)
    weak, strong = (f"{each}.{namespace}.example.com" for each in ("weak", "strong"))
    api.apply([tls_secret("weak", weak_keypair(weak)), with_tls("weak", weak)], namespace=namespace)
    wait_until(lambda: failures_of(api, namespace, "weak") != [])
    [failed] = failures_of(api, namespace, "weak")
    assert re.fullmatch(
        r"this Ingress is left out: nginx does not take its configuration \(exit code 1\):\n"
        r"\[emerg\]: SSL_CTX_use_certificate\(\".*/keypairs/.*_weak\.pem\"\) failed "
        r".*ee key too small\)\n"
        r"nginx: configuration file .*/nginx\.conf\.new test failed",
        failed,
    )
    # One that comes after it is taken up, and those before it stay.
    keypair = Authority().issue(strong)
    api.apply([tls_secret("strong", keypair), with_tls("strong", strong)], namespace=namespace)
    wait_until(lambda: presented_at(grpclb, strong) == keypair.leaf_der)
    assert failures_of(api, namespace, "strong") == []
    assert failures_of(api, namespace, "grpclb-ingress") == []
    assert_no_failed_calls(grpclb.drive(calls=10))
    # And it itself, once nothing is wrong with it any more.
    keypair = Authority().issue(weak)
    api.apply([tls_secret("weak", keypair)], namespace=namespace)
    wait_until(lambda: presented_at(grpclb, weak) == keypair.leaf_der)
    # What was taken up is left out again where it goes wrong.
    api.apply([tls_secret("weak", weak_keypair(weak))], namespace=namespace)
    wait_until(lambda: failures_of(api, namespace, "weak") == [failed, failed])
    wait_until(lambda: api.get(INGRESSES, namespace, "weak")["status"] == {"loadBalancer": {}})
    assert_no_failed_calls(grpclb.drive(calls=10))


def with_tls(name: str, host: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{"hosts": [host], "secretName": name}],
            "rules": [{"host": host}],
        },
    }


def failures_of(api: KubeApi, namespace: str, ingress: str) -> list[str]:
    """Return what is said of one Ingress, as often as it is."""
    return [
        event["message"]
        for event in api.list(EVENTS, namespace)
        if event["reason"] == "NginxFailed" and event["involvedObject"]["name"] == ingress
        for _ in range(event["count"])
    ]


def presented_at(grpclb: Grpclb, host: str) -> bytes:
    address, authority = grpclb.ingress.address, grpclb.ingress.authority_pem
    return probes.handshake(address, host=host, authority_pem=authority).leaf_der


def weak_keypair(host: str) -> Keypair:
    """Return a certificate and key such as no authority issues any more."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Keypair(
        chain_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
