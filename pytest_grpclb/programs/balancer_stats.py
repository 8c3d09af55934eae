"""What clients of a balancer report of their calls."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_grpclb._pb import load_balancer_pb2 as pb


class ClientTotals:
    """The reports of one client's stream, added up: each report tells of the calls since the last.

    :param name: what to call the client
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = self.finished = self.unsent = self.received = 0
        self.dropped: Counter[str] = Counter()
        """By token."""

    def add(self, report: pb.ClientStats) -> bool:
        """Take one report, and return whether it tells of any call."""
        self.started += report.num_calls_started
        self.finished += report.num_calls_finished
        self.unsent += report.num_calls_finished_with_client_failed_to_send
        self.received += report.num_calls_finished_known_received
        for drop in report.calls_finished_with_drop:
            self.dropped[drop.load_balance_token] += drop.num_calls
        return bool(report.num_calls_started or report.num_calls_finished)

    def __str__(self) -> str:
        drops = ", ".join(f"{calls} by {token!r}" for token, calls in sorted(self.dropped.items()))
        return (
            f"{self.started} calls started, {self.finished} finished, {self.received} known to be "
            f"received by a server, {self.unsent} not sent, dropped: {drops or 'none'}"
        )
