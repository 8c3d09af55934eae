"""The body of an answer of the API as it arrives: watches and logs."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ResponseStream"]


class ResponseStream:
    """The body of an answer as it arrives; `close` from another thread ends the reading one."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield what has arrived, until the answer ends.

        :raises ConnectionError: if it breaks off or stays silent for too long
        """
        from urllib3.exceptions import HTTPError

        try:
            yield from self._response.stream(65536, decode_content=False)
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            # Closed under the reader's feet, urllib3 and http.client raise whichever comes first.
            raise ConnectionError(str(error)) from error

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a watch: one JSON object a line.

        :raises ConnectionError: as `pieces`, or if a line is none
        :source: Kubernetes documentation, "Efficient detection of changes"
        """
        rest = b""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line:
                    yield _event(line)

    def close(self) -> None:
        """End the request; the connection is not used again."""
        import socket

        connection = getattr(self._response, "connection", None)
        sock = getattr(connection, "sock", None)
        if sock is not None:
            # Closing alone would not wake a thread that is blocked in recv on this socket.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._response.close()


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise ConnectionError(f"a watch told what is no JSON: {line[:100]!r}") from error
    if not isinstance(event, dict) or "type" not in event or "object" not in event:
        raise ConnectionError(f"a watch told what is no event: {line[:100]!r}")
    return event
