"""A service that speaks TLS itself, under every strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from .test_own_service import EVEN, OPEN, SHOP, run

if TYPE_CHECKING:
    from pathlib import Path

NAME = "shop.example.org"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of an authority, a server and a client."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for who, certificate in (
        ("server", authority.issue_cert(NAME)),
        ("client", authority.issue_cert("client.example.org")),
    ):
        certificate.private_key_pem.write_to_path(folder / f"{who}.key")
        (folder / f"{who}.pem").write_bytes(
            b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        )
    return folder


def tls(authority: Path, *, mutual: bool) -> list[str]:
    files = [authority / "server.pem", authority / "server.key"]
    files += [authority / "ca.pem"] if mutual else []
    switches = [
        f"--grpclb-command={OPEN} --tls {','.join(map(str, files))}",
        f"--grpclb-tls-ca={authority / 'ca.pem'}",
        f"--grpclb-tls-name={NAME}",
    ]
    if mutual:
        switches += [
            f"--grpclb-tls-cert={authority / 'client.pem'}",
            f"--grpclb-tls-key={authority / 'client.key'}",
        ]
    return switches


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
def test_a_service_with_tls_of_its_own_is_called_with_credentials(
    authority: Path, *, mutual: bool
) -> None:
    done = run(*tls(authority, mutual=mutual))
    assert "2 passed" in done.stdout, done.stdout


TLS_TESTS = """
import pytest
from pytest_grpclb import (
    IngressSettings,
    assert_even_spread,
    assert_ingress_reachable,
    assert_no_failed_calls,
    assert_rebalanced,
)

@pytest.mark.grpclb_only("clusterip")
def test_called(grpclb):
    assert_no_failed_calls(grpclb.drive(calls=50))

@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
@pytest.mark.grpclb_skip("clusterip")
def test_even(grpclb):
    assert_even_spread(grpclb.drive())

@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
@pytest.mark.grpclb_skip("clusterip")
def test_scaled(grpclb):
    with grpclb.traffic(rate=500) as traffic:
        grpclb.scale(5)
        assert_rebalanced(traffic)

@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))
@pytest.mark.grpclb_only("ingress-nginx")
def test_ingress(grpclb):
    assert_ingress_reachable(grpclb.ingress)
"""


@pytest.mark.parametrize(
    ("strategy", "mutual", "passed"),
    [
        ("clusterip", False, 1),
        ("clusterip", True, 1),
        ("envoy-sidecar", False, 2),
        ("envoy-sidecar", True, 2),
        ("ingress-nginx", False, 3),
    ],
)
def test_tls_to_the_pods_is_spoken_under_other_strategies_too(
    authority: Path, tmp_path: Path, *, strategy: str, mutual: bool, passed: int
) -> None:
    (tmp_path / "test_tls.py").write_text(TLS_TESTS)
    done = run(
        str(tmp_path),
        f"--rootdir={SHOP}",
        f"--config-file={SHOP / 'pyproject.toml'}",
        f"--grpclb-strategy={strategy}",
        *tls(authority, mutual=mutual),
        "--grpclb-require",
    )
    assert f"{passed} passed" in done.stdout, done.stdout
    assert "failed" not in done.stdout


def test_what_cannot_speak_tls_to_the_pods_says_so(authority: Path) -> None:
    done = run(
        EVEN,
        *tls(authority, mutual=True),
        "--grpclb-strategy=lookaside,ingress-nginx",
    )
    assert (
        "--grpclb-tls-ca: clients speak to the balancers of lookaside as they do to the pods, and "
        "those speak plaintext; mark such tests @pytest.mark.grpclb_skip('lookaside'), or test the "
        "service in plaintext"
    ) in done.stdout
    assert (
        "--grpclb-tls-ca: the ingress speaks plaintext to the pods; mark such tests "
        '@pytest.mark.grpclb(ingress=IngressSettings(tls="end-to-end"))'
    ) in done.stdout


@pytest.mark.parametrize("strategy", ["headless", "envoy-sidecar"])
def test_a_name_that_the_certificates_have_not_is_refused_and_the_error_says_what_to_set(
    authority: Path, strategy: str
) -> None:
    named = tls(authority, mutual=False)
    done = run(EVEN, *named, "--grpclb-tls-name=other.example.org", f"--grpclb-strategy={strategy}")
    assert "1 error" in done.stdout, done.stdout
    [told] = [line for line in done.stdout.splitlines() if "TypesError: " in line]
    # Clients wait for a connection that is good; a proxy refuses the call.
    status = {"headless": "DEADLINE_EXCEEDED", "envoy-sidecar": "UNAVAILABLE"}[strategy]
    assert f" ended with {status}: " in told
    assert told.endswith(
        "; the service was not reached: say where its pods listen with --grpclb-service-port, and "
        "what they speak TLS with by --grpclb-tls-ca and --grpclb-tls-name"
    )


def test_a_service_with_tls_called_in_plaintext_is_told_so(authority: Path) -> None:
    done = run(EVEN, tls(authority, mutual=False)[0], "--grpclb-probe=tcp")
    assert "what they speak TLS with by --grpclb-tls-ca" in done.stdout, done.stdout


def test_calls_that_reach_nothing_are_told_with_what_to_set() -> None:
    done = run(
        EVEN,
        f"--grpclb-command={OPEN.replace('{port}', '50077')}",
        "--grpclb-probe=none",
        *("--grpclb-protos=shop/v1/catalog.proto", "--grpclb-proto-path=protos"),
        "--grpclb-timeout=2",
    )
    [told] = [line for line in done.stdout.splitlines() if "DriverError: " in line]
    assert " was answered during warm-up; the last one failed with UNAVAILABLE: " in told
    assert told.endswith(
        "; nothing of the service's answered: say where its pods listen with "
        "--grpclb-service-port, what they speak TLS with by --grpclb-tls-ca and "
        "--grpclb-tls-name (and --grpclb-tls-cert where it is mutual), or raise --grpclb-timeout "
        "if it answers slowly"
    )


@pytest.mark.parametrize(
    ("switch", "told"),
    [
        (
            "--grpclb-tls-name=other.example.org",
            "the servers' certificates have not the name that is asked for: give one that they "
            "have by --grpclb-tls-name",
        ),
        (
            "--grpclb-tls-ca={other}",
            "the servers' certificates are not vouched for by those of --grpclb-tls-ca, or have "
            "not the name of --grpclb-tls-name: correct these",
        ),
    ],
    ids=["name", "authority"],
)
def test_a_handshake_that_fails_is_told_with_what_to_set(
    authority: Path, tmp_path: Path, switch: str, told: str
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    done = run(
        EVEN,
        *tls(authority, mutual=False),
        switch.format(other=tmp_path / "other.pem"),
        *("--grpclb-protos=shop/v1/catalog.proto", "--grpclb-proto-path=protos"),
    )
    [line] = [line for line in done.stdout.splitlines() if "DriverError: " in line]
    assert line.endswith(f"; {told}")


def test_a_key_that_is_not_the_certificate_s_is_refused_before_anything_is_called(
    authority: Path,
) -> None:
    other = authority / "server.key"
    done = run(EVEN, *tls(authority, mutual=True), f"--grpclb-tls-key={other}")
    assert (
        f"E   pytest_grpclb.errors.ServiceError: --grpclb-tls-key: {str(other)!r} is not "
        "the key of the first certificate of --grpclb-tls-cert; give the one that is"
    ) in done.stdout


def test_a_file_that_is_no_certificate_is_named(authority: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    done = run(EVEN, *tls(authority, mutual=False), f"--grpclb-tls-ca={tmp_path / 'ca.pem'}")
    told = f"--grpclb-tls-ca: {str(tmp_path / 'ca.pem')!r} is no PEM; name a PEM file"
    assert told in done.stdout
