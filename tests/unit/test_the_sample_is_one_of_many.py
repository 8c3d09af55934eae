"""The sample service is one service under test, and nothing more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest_grpclb
from pytest_grpclb.chart import charts_directory

PACKAGE = Path(pytest_grpclb.__file__).parent
ITS_PLACE = {
    "samples.py",  # where a test brings no service
    "programs/greeter.py",  # itself
    "programs/__init__.py",  # the list of programs that the image has
    "programs/__main__.py",  # tells how to start one
}
NAMES = re.compile(r"greeter|helloworld|SayHello|GRPC_MAX_CONNECTION_AGE", re.IGNORECASE)


def test_no_stage_between_options_and_report_knows_the_sample() -> None:
    files = [
        file
        for file in PACKAGE.rglob("*.py")
        if "_pb" not in file.parts and file.relative_to(PACKAGE).as_posix() not in ITS_PLACE
    ]
    assert len(files) > 100
    assert [
        f"{file.relative_to(PACKAGE)}: {line}"
        for file in files
        for line in file.read_text().splitlines()
        if NAMES.search(line)
    ] == []


def test_the_strategies_chart_knows_no_service_by_name() -> None:
    chart = charts_directory() / "strategy"
    files = [*(chart / "templates").iterdir(), *chart.glob("values.*")]  # its README may have one
    assert len(files) > 5
    assert [file.name for file in files if NAMES.search(file.read_text())] == []


def test_its_own_place_does() -> None:
    assert all(NAMES.search((PACKAGE / file).read_text()) for file in ITS_PLACE)
