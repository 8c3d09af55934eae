"""What a port speaks, asked by a connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_grpclb.ingress.chain import Spoken
from pytest_grpclb.ingress.probes import spoken_at

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def saying(words: bytes) -> Iterator[str]:
    """A port that says so much to whoever comes, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1024)
                        connection.sendall(words)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), Spoken.PLAINTEXT),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Spoken.UNKNOWN),
        # As a port-forward does to whose end nobody listens.
        (b"", Spoken.SILENCE),
    ],
)
def test_what_a_port_speaks_is_what_it_says(words: bytes, found: Spoken) -> None:
    with saying(words) as address:
        assert spoken_at(address) is found


def test_a_port_that_nothing_listens_on_refuses() -> None:
    with saying(b"") as address:
        pass
    assert spoken_at(address) is Spoken.NOTHING
