from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb._version import __version__
from pytest_grpclb.clusters import image
from pytest_grpclb.clusters.engine import Engine
from pytest_grpclb.clusters.image import build, content, main, reference
from pytest_grpclb.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_tag_follows_the_content() -> None:
    files = dict(content())
    name = reference(files)
    assert name.startswith(f"localhost/pytest-grpclb:{__version__}-")
    assert reference(dict(reversed(files.items()))) == name
    assert reference(files | {"Dockerfile": b"FROM scratch\n"}) != name


def test_the_libraries_are_pinned_with_all_that_they_need() -> None:
    lines = content()["requirements.txt"].decode().splitlines()
    assert (
        lines[0]
        == f"# on docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    )
    names = [line.partition("==")[0] for line in lines[1:]]
    assert {"grpcio", "grpcio-channelz", "grpcio-health-checking", "protobuf"} <= set(names)
    assert all("==" in line for line in lines[1:])
    assert lines[1:] == sorted(lines[1:])
    assert len(names) == len(set(names))


def test_the_programs_run_on_what_is_in_the_image_alone(tmp_path: Path) -> None:
    for name, text in content().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pytest_grpclb.programs as programs; "
        "print(programs.__file__); print('pytest' in sys.modules, 'kubernetes' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "pytest_grpclb" / "programs" / "__init__.py"),
        "False False",
    ]


def test_the_image_is_built_for_a_user_who_is_not_root() -> None:
    lines = content()["Dockerfile"].decode().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == [
        "FROM ${BASE} AS wheels",
        "FROM ${BASE}",
    ]
    assert "USER 65532:65532" in lines
    assert lines[-1] == 'ENTRYPOINT ["python", "-m", "pytest_grpclb.programs"]'


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """One that shows what it was given, and cannot build on the base "broken:1"."""
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *broken:1*) echo "ERROR: broken:1: not found" >&2; exit 1;; esac\n'
        'for last; do :; done; ls "$last" | tr "\\n" " " > "$0.saw"; echo "$*" >> "$0.asked"\n'
    )
    program.chmod(0o755)
    return Engine(name="docker", program=program)


def test_building_gives_the_engine_the_files_the_tag_and_the_base(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in image._FROM_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    build(engine, "shop/programs:1", content(), base="mirror/python:3.12-slim")
    asked = (tmp_path / "docker.asked").read_text()
    assert asked.startswith(
        "build --tag=shop/programs:1 --build-arg=BASE=mirror/python:3.12-slim /"
    )
    assert (tmp_path / "docker.saw").read_text() == "Dockerfile pytest_grpclb requirements.txt "


def test_what_is_built_can_be_read_by_its_user_whatever_the_umask(
    engine: Engine, tmp_path: Path
) -> None:
    engine.program.write_text(
        '#!/bin/sh\nfor last; do :; done; cd "$last" || exit 1\n'
        'find . -mindepth 1 -printf "%y %m\\n" | sort -u > "$OLDPWD/saw"\n'
    )
    before = os.umask(0o077)
    try:
        with contextlib.chdir(tmp_path):
            build(engine, "shop/programs:1", content())
    finally:
        os.umask(before)
    assert (tmp_path / "saw").read_text().splitlines() == ["d 755", "f 644"]


def test_where_packages_come_from_is_told_by_the_environment_and_not_on_the_command_line(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = reference(content())
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3cret@pypi.example.org/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    build(engine, "shop/programs:1", content())
    asked = (tmp_path / "docker.asked").read_text()
    assert " --build-arg=PIP_INDEX_URL --build-arg=HTTPS_PROXY " in asked
    assert "PIP_EXTRA_INDEX_URL" not in asked
    assert "s3cret" not in asked
    # It is the same image, from wherever its packages were taken.
    assert reference(content()) == plain
    assert {f"ARG {name}" for name in image._FROM_ENVIRONMENT if name.startswith("PIP")} <= set(
        content()["Dockerfile"].decode().splitlines()
    )


def test_another_base_is_another_image() -> None:
    mirrored = content("mirror.example.org/python:3.11-slim")
    assert mirrored["requirements.txt"].startswith(b"# on mirror.example.org/python:3.11-slim\n")
    assert reference(mirrored) != reference(content())


def test_a_build_that_fails_says_what_to_set_and_no_passwords(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3%21cret@pypi.example.org/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://t0ken@extra.example.org/simple /local")
    engine.program.write_text(
        '#!/bin/sh\necho "no grpcio at $PIP_INDEX_URL, $PIP_EXTRA_INDEX_URL; s3!cret" >&2; exit 1\n'
    )
    with pytest.raises(CommandError) as caught:
        build(engine, "shop/programs:1", content())
    command, _, told = str(caught.value).partition("` ")
    assert "s3" not in command
    assert told == (
        "ended with exit code 1, so there is no image of the programs; where the base image, or "
        "Python's packages, cannot be had from here, name another one with --grpclb-base-image (or "
        "--base), and set PIP_INDEX_URL or HTTPS_PROXY in the environment; or name an image that "
        "was built elsewhere with --grpclb-image; it said:\n"
        "no grpcio at https://***@pypi.example.org/simple, https://***@extra.example.org/simple "
        "/local; ***"
    )
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_from_the_command_line(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "find_engine", lambda _provider: engine)
    assert main(["shop/programs:1"]) == 0
    assert capsys.readouterr().out == ("built shop/programs:1; next: docker push shop/programs:1\n")
    assert main(["shop/programs:1", "--platform=linux/arm64"]) == 0
    capsys.readouterr()
    plain, other = (engine.program.parent / "docker.asked").read_text().splitlines()
    assert "--platform" not in plain
    assert " --platform=linux/arm64 /" in other
    assert main(["shop/programs:1", "--base=broken:1"]) == 1
    assert capsys.readouterr().err.endswith("; it said:\nERROR: broken:1: not found\n")
