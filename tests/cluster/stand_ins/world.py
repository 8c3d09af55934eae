"""What the stand-ins share: their state, under a lock, and the record of what they were asked."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = Path(os.environ["STAND_IN_STATE"])


@contextmanager
def world(program: str) -> Iterator[dict[str, Any]]:
    with (STATE / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (STATE / "record").open("a") as record:
            record.write(shlex.join([program, *sys.argv[1:]]) + "\n")
        path = STATE / "world.json"
        found = json.loads(path.read_text())
        try:
            yield found
        finally:
            path.write_text(json.dumps(found))


def fail(text: str, code: int = 1) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    raise SystemExit(code)


def split(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return words and flags; a flag's value follows an equals sign."""
    words = [each for each in arguments if not each.startswith("--")]
    flags = [each[2:].partition("=") for each in arguments if each.startswith("--")]
    return words, {name: value for name, _, value in flags}
