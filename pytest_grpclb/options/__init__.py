"""Command line, ini settings and markers."""

from __future__ import annotations

from pytest_grpclb.options.declared import add_options
from pytest_grpclb.options.markers import apply_marker
from pytest_grpclb.options.reading import Options, read_options, selected

__all__ = ["Options", "add_options", "apply_marker", "read_options", "selected"]
