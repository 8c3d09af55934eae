"""One thing that several processes of this user share: made by the first, ended by the last.

Who uses it holds a lock on a file, which the kernel lets go of however the process ends. So the
last one out is known, and so is what was left behind by runs that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Share", "locked", "shared_directory"]

_LOCK = "lock"
"""One at a time in a folder, also among different names."""


def shared_directory(what: str) -> Path:
    """Return a folder of this user's, the same for all processes with the same temporary folder.

    :raises GrpclbError: if it belongs to somebody else
    """
    parent = Path(tempfile.gettempdir()) / f"pytest-grpclb-{os.getuid()}"
    folder = parent / what
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (parent, folder):
        found = each.lstat()
        if found.st_uid != os.getuid() or each.is_symlink():
            raise GrpclbError(
                f"{each} belongs to user {found.st_uid}, not to {os.getuid()}; delete it, "
                "or set TMPDIR to a folder of your own"
            )
        each.chmod(0o700)
    return folder


class Share:
    """A part in what is shared under *name*; `join` and `leave` it once each.

    :param folder: what `shared_directory` gives
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._users: IO[bytes] | None = None

    @property
    def _state(self) -> Path:
        return self._folder / f"{self._name}.json"

    def join(self, make: Callable[[Callable[[], None]], None]) -> bool:
        """Take part; the first makes what is shared, the others wait for that.

        :param make: what it raises is raised here, and the next one to join tries again. Before it
            begins to make anything it calls what it is given: from then on, and however making
            goes on, the last one out ends what is shared
        :return: whether the last one out ends it; if not, it was there before
        """
        with locked(self._folder / _LOCK):
            users = self._users_path.open("ab")
            fcntl.flock(users, fcntl.LOCK_SH)
            self._users = users
            state = self._read()
            if state.get("made"):
                return bool(state.get("ours"))
            # One that tried before may have begun, and failed: then it is for this run to end.
            ours = bool(state.get("ours"))
            self._write(made=False, ours=ours)

            def claim() -> None:
                nonlocal ours
                ours = True
                self._write(made=False, ours=True)

            make(claim)
            self._write(made=True, ours=ours)
            return ours

    def leave(self, end: Callable[[], None], *, keep: bool) -> bool:
        """Take part no longer; the last one out ends what is shared.

        :param keep: it is to stay, whatever the others say
        :return: whether it stays though this run made it and this was the last one out
        """
        users, self._users = self._users, None
        if users is None:
            return False
        with locked(self._folder / _LOCK), users:
            state = self._read()
            if keep:
                state["keep"] = True
                self._write(**state)
            fcntl.flock(users, fcntl.LOCK_UN)
            if not _is_free(users):
                return False
            kept = bool(state.get("keep") and state.get("ours"))
            try:
                if state.get("ours") and not kept:
                    end()
            finally:
                self._forget()
            return kept

    @staticmethod
    def end_abandoned(folder: Path, end: Callable[[str], None]) -> None:
        """End what nobody uses any more though nobody has ended it: their runs have died."""
        with locked(folder / _LOCK):
            for path in sorted(folder.glob("*.users")):
                share = Share(folder, path.name.removesuffix(".users"))
                with path.open("ab") as users:
                    if not _is_free(users):
                        continue
                    state = share._read()
                    if state.get("ours") and not state.get("keep"):
                        end(share._name)
                    share._forget()

    @property
    def _users_path(self) -> Path:
        return self._folder / f"{self._name}.users"

    def _read(self) -> dict[str, bool]:
        try:
            found: dict[str, bool] = json.loads(self._state.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def _write(self, **state: bool) -> None:
        self._state.write_text(json.dumps(state))

    def _forget(self) -> None:
        self._state.unlink(missing_ok=True)
        self._users_path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the file *path*, which is made, for as long as the block runs."""
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_free(users: IO[bytes]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
