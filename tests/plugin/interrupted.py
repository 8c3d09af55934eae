"""Tests that a signal finds in their midst; the file "reached" says when they have got there."""

from __future__ import annotations

IN_A_TEST = """
from pathlib import Path

def test_long(grpclb):
    with grpclb.traffic(rate=50) as traffic:
        Path("reached").touch()
        while True:
            traffic.wait(60)
"""

IN_SETUP = """
from pathlib import Path
import signal

import pytest

@pytest.fixture
def grpclb_call(grpclb_namespace):
    Path("reached").touch()
    signal.pause()

def test_never_begins(grpclb):
    pass
"""
