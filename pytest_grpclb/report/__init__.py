"""Verdicts and the facts behind them as plain text."""

from __future__ import annotations

from pytest_grpclb.report.diagnosis import diagnose, name_advice, short_lived
from pytest_grpclb.report.streams import ended_streams, stream_table
from pytest_grpclb.report.summary import bars, format_summary, summary_row
from pytest_grpclb.report.tables import (
    client_view,
    failed_calls,
    pod_name,
    pod_table,
    status_name,
    timeline,
)
from pytest_grpclb.report.verdicts import format_failure, format_verdict_line

__all__ = [
    "bars",
    "client_view",
    "diagnose",
    "ended_streams",
    "failed_calls",
    "format_failure",
    "format_summary",
    "format_verdict_line",
    "name_advice",
    "pod_name",
    "pod_table",
    "short_lived",
    "status_name",
    "stream_table",
    "summary_row",
    "timeline",
]
