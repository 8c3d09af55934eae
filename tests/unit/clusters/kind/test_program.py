from __future__ import annotations

import hashlib
import platform
import urllib.request
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.clusters.kind import program as kind_program
from pytest_grpclb.clusters.kind.program import KIND_VERSION, find_kind
from pytest_grpclb.errors import ClusterUnavailableError

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, version: str = "v0.31.0", code: int = 0) -> Path:
    """Put a kind of a version into *folder*."""
    folder.mkdir(exist_ok=True)
    path = folder / "kind"
    says = f"echo 'kind {version} go1.25.5 linux/amd64'"
    path.write_text(f'#!/bin/sh\n[ "$*" = version ] || exit 9\n{says}\nexit {code}\n')
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found but what the test puts there; nothing is downloaded."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRPCLB_KIND_BIN", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a kind is that can be downloaded."""
    what = b"#!/bin/sh\n"
    known = {"x86_64": ("amd64", hashlib.sha256(what).hexdigest())}
    monkeypatch.setattr(kind_program, "_KIND_SHA256", known)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: BytesIO(what))
    return tmp_path / "cache" / "pytest-grpclb" / f"kind-{KIND_VERSION}"


def test_kind_is_found_by_option_then_environment_then_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, variable, path = (program(tmp_path / where) for where in ("option", "variable", "bin"))
    assert find_kind("") == path
    monkeypatch.setenv("GRPCLB_KIND_BIN", str(variable))
    assert find_kind("") == variable
    assert find_kind(str(option)) == option


def test_kind_is_downloaded_last_and_taken_only_with_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (
        f"https://github.com/kubernetes-sigs/kind/releases/download/{KIND_VERSION}/kind-linux-amd64"
    )
    advice = "install kind v0.27.0 or newer, or use --grpclb-cluster=embedded"
    with pytest.raises(ClusterUnavailableError) as caught:
        find_kind("")
    assert str(caught.value) == (
        "cluster provider 'kind' cannot be used here: kind is not in PATH, and downloading "
        f"{url} failed: no network; {advice}"
    )
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: BytesIO(b"evil"))
    with pytest.raises(ClusterUnavailableError, match=r"has the SHA-256 .*, not eb244cba"):
        find_kind("")
    assert not (tmp_path / "cache").exists()


def test_kind_is_not_downloaded_for_machines_that_it_is_not_made_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ClusterUnavailableError, match="none is downloaded for Linux on riscv64"):
        find_kind("")


def test_a_kind_that_is_no_program_is_named_with_who_named_it() -> None:
    with pytest.raises(ClusterUnavailableError) as caught:
        find_kind("/no/such/kind")
    assert str(caught.value) == (
        "cluster provider 'kind' cannot be used here: --kind-bin is '/no/such/kind', which is no "
        "program; give the path of kind, or leave it out to have it found"
    )


@pytest.mark.parametrize("version", ["v0.27.0", "v0.27.0-alpha+0a1b2c", "v0.31.0", "v1.0.0"])
def test_one_in_path_that_knows_the_nodes_is_used(tmp_path: Path, version: str) -> None:
    path = program(tmp_path / "bin", version)
    assert find_kind("") == path


def test_one_that_does_not_tell_its_version_is_used(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "(devel)")
    assert find_kind("") == path


def test_one_in_path_that_is_too_old_or_does_not_run_is_passed_over(
    tmp_path: Path, downloaded: Path
) -> None:
    program(tmp_path / "bin", "v0.26.0")
    assert find_kind("") == downloaded
    program(tmp_path / "bin", "v0.31.0", code=126)
    assert find_kind("") == downloaded


def test_what_is_wrong_with_the_one_in_path_is_told_where_none_can_be_downloaded(
    tmp_path: Path,
) -> None:
    path = program(tmp_path / "bin", "v0.20.0")
    url = (
        f"https://github.com/kubernetes-sigs/kind/releases/download/{KIND_VERSION}/kind-linux-amd64"
    )
    with pytest.raises(ClusterUnavailableError) as caught:
        find_kind("")
    assert str(caught.value) == (
        f"cluster provider 'kind' cannot be used here: {path} is kind v0.20.0, older than v0.27.0, "
        "the first that can load images into nodes of this release, and downloading "
        f"{url} failed: no network; install kind v0.27.0 or newer, or use "
        "--grpclb-cluster=embedded"
    )


def test_one_that_is_named_is_never_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloaded: Path
) -> None:
    path = program(tmp_path / "old", "v0.24.0")
    monkeypatch.setenv("GRPCLB_KIND_BIN", str(path))
    with pytest.raises(ClusterUnavailableError) as caught:
        find_kind("")
    assert str(caught.value) == (
        f"cluster provider 'kind' cannot be used here: GRPCLB_KIND_BIN is {str(path)!r}, and "
        f"{path} is kind v0.24.0, older than v0.27.0, the first that can load images into nodes of "
        "this release; give the path of kind v0.27.0 or newer, leave it out to have one found or "
        "downloaded, or name a node image of its own release with --grpclb-kind-image"
    )
    assert not downloaded.exists()
    assert find_kind("", any_version=True) == path
