"""Programs that stand in for kind, docker and podman where none is: for the tests, and no others.

They record what they were asked, keep the state that the real ones would keep, answer in their
words and with their exit codes, and what they call a cluster is an embedded one.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["StandIns"]

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIns:
    """The programs, in a folder for PATH, and the state that they share."""

    folder: Path

    @classmethod
    def install(
        cls, folder: Path, *, kubeconfig: Path, ingress: dict[str, str] | None = None
    ) -> StandIns:
        """Put the programs below *folder*; *kubeconfig* leads to what they give out.

        :param ingress: where ports of the node are really served: {"443/tcp": "127.9.0.4:8443"}
        """
        made = cls(folder=folder)
        made.programs.mkdir(parents=True)
        made.state.mkdir()
        for name in ("kind", "docker", "podman"):
            program = made.programs / name
            program.write_text(
                f"#!/bin/sh\nSTAND_IN_STATE='{made.state}' PYTHONPATH='{_ROOT}' "
                f"exec '{sys.executable}' -P -m tests.cluster.stand_ins.{name} \"$@\"\n"
            )
            program.chmod(0o755)
        made.set(kubeconfig=str(kubeconfig), ingress=ingress or {})
        return made

    @property
    def programs(self) -> Path:
        """The folder with the programs."""
        return self.folder / "bin"

    @property
    def state(self) -> Path:
        """The folder with what they know."""
        return self.folder / "state"

    def set(self, **what: Any) -> None:
        """Have the real world be as given: engine_is_down, port_collisions, never_ready."""
        known = {**self.get(), **what}
        (self.state / "world.json").write_text(json.dumps(known))

    def get(self) -> dict[str, Any]:
        """Return the state: clusters, images, and what `set` was given."""
        path = self.state / "world.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def asked(self, program: str = "") -> list[str]:
        """Return the commands so far, of one program or of both."""
        path = self.state / "record"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(program)]

    def path_variable(self) -> str:
        """Return a PATH in which the programs come first."""
        return os.pathsep.join((str(self.programs), os.environ.get("PATH", "")))
