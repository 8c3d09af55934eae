"""What server reflection lists, asked on an open channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb.calls.reflection import listed_services
from pytest_grpclb.errors import TypesError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["listed"]


def listed(channel: Any, timeout_s: float, *, version: str = "") -> tuple[str, tuple[str, ...]]:
    """Return the version by which the server was asked, and what it lists; both empty: nothing.

    :param version: the one that it is known to have; empty: each is tried
    """

    def exchange(method: str, requests: Sequence[bytes]) -> tuple[list[bytes], int, str]:
        answers: list[bytes] = []
        asked = channel.stream_stream(method)(iter(requests), timeout=timeout_s)
        try:
            answers.extend(asked)
        except grpc.RpcError as error:
            return answers, error.code().value[0], error.details() or ""
        return answers, grpc.StatusCode.OK.value[0], ""

    try:
        return listed_services(exchange, version=version)
    except TypesError:
        return "", ()
