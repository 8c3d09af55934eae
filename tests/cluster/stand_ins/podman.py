"""Stands in for podman, where it is another than docker: how it names images.

:source: podman-tag(1), podman-untag(1), podman-image-inspect(1); containers/common, ``libimage``,
    "LookupImage": a name without a registry is localhost's first
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.cluster.stand_ins import docker
from tests.cluster.stand_ins.world import fail, split, world


def full(known: dict[str, Any], name: str) -> str:
    images = known.setdefault("images", [])
    for each in (name, f"localhost/{name}", f"docker.io/{name}", f"docker.io/library/{name}"):
        if each in images:
            return each
    return fail(f"Error: {name}: image not known", 125)


def answer(known: dict[str, Any], words: list[str], flags: dict[str, str]) -> str:
    match words:
        case ["image", "inspect", name]:
            full(known, name)
            return "0" * 64 + "\n"
        case ["image", "save", name]:
            Path(flags["output"]).write_text(full(known, name))
            return ""
        case ["tag", name, other]:
            full(known, name)
            known["images"].append(other)
            return ""
        case ["untag", name, other]:
            full(known, name)
            known["images"].remove(other)
            return ""
        case ["info"]:
            return f"v{known.get('cgroup_version', '2')}\n"
    return docker.answer(known, words, flags)


if __name__ == "__main__":
    with world("podman") as known:
        sys.stdout.write(answer(known, *split(sys.argv[1:])))
