"""What pytest shows of an error of this package: its message, and the frames that are the user's.

The message says what an error's cause said. Its traceback, and the frames of other plugins that
wrap fixtures (pytest-asyncio's do), would stand before it and push it off the screen.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import pytest

__all__ = ["only_the_message"]

_PACKAGE = Path(__file__).parent
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_COMPLETE = frozenset({"native"})
"""Styles of ``--tb`` that are asked for to see what Python itself would show."""


@contextlib.contextmanager
def only_the_message(
    config: pytest.Config, failure: pytest.ExceptionInfo[BaseException] | None
) -> Iterator[None]:
    """Leave out, of an error of this package, what no frame of the user's code is in.

    The exception itself is as before afterwards. With ``--full-trace`` nothing is left out.
    """
    whole = config.getoption("fulltrace", False) or config.getoption("tbstyle", "") in _COMPLETE
    if failure is None or not isinstance(failure.value, GrpclbError) or whole:
        yield
        return
    error, traceback, cause = failure.value, failure.traceback, failure.value.__cause__
    plugins = {
        path
        for plugin in config.pluginmanager.get_plugins()
        if (path := getattr(plugin, "__file__", None))
        and not _is_users(Path(path), config.rootpath)
    }
    plugins.add(contextlib.__file__)  # it enters what this package's context managers open
    # Frames that hide themselves stay: where nothing is left, pytest would show its own.
    failure.traceback = traceback.filter(
        lambda entry: (
            entry.ishidden(failure)
            or not (str(entry.path) in plugins or _is_ours(Path(entry.path)))
        )
    )
    if not any(_has_users_frames(each, config.rootpath) for each in _chain(cause)):
        error.__cause__ = None
    try:
        yield
    finally:
        failure.traceback, error.__cause__ = traceback, cause


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an exception and those that it came from, as Python would show them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _has_users_frames(error: BaseException, root: Path) -> bool:
    return any(_is_users(Path(path), root) for path in _paths(error.__traceback__))


def _paths(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_filename
        traceback = traceback.tb_next


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(_PACKAGE)


def _is_users(path: Path, root: Path) -> bool:
    installed = not _INSTALLED.isdisjoint(path.parts)
    return path.is_relative_to(root) and not installed and not _is_ours(path)
