"""Stands in for docker.

:source: Docker CLI 28, ``docker image inspect``, ``docker port``, ``docker build``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.cluster.stand_ins.world import fail, split, world


def image(known: dict[str, Any], words: list[str], flags: dict[str, str]) -> str:
    name = words[1]
    if name not in known.get("images", []):
        sys.stdout.write("\n")
        fail(f"Error response from daemon: No such image: {name}")
    if words[0] == "save":
        if "platform" in flags and known.get("docker_is_old"):
            fail("unknown flag: --platform\n\nUsage:  docker image save [OPTIONS] IMAGE [IMAGE...]")
        # The containerd image store gives out the list of all platforms, and the content of one.
        listed = " and a list" if known.get("containerd_store") and "platform" not in flags else ""
        Path(flags["output"]).write_text(f"{name}{listed}")
        return ""
    if ".Os" in flags.get("format", ""):
        return "linux/amd64\n"
    return "sha256:" + "0" * 64 + "\n"


def answer(known: dict[str, Any], words: list[str], flags: dict[str, str]) -> str:
    if known.get("engine_is_down"):
        fail(
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
            "Is the docker daemon running?"
        )
    if words[0] == "image":
        return image(known, words[1:], flags)
    match words:
        case ["ps"]:
            return ""
        case ["info"]:
            return f"{known.get('cgroup_version', '2')}\n"
        case ["build", context]:
            files = {str(each.relative_to(context)) for each in Path(context).rglob("*.*")}
            if not (Path(context) / "Dockerfile").is_file():
                fail(
                    "ERROR: failed to build: failed to solve: failed to read dockerfile: "
                    "open Dockerfile: no such file or directory"
                )
            known["built_from"] = sorted(files)
            known.setdefault("images", []).append(flags["tag"])
            return ""
        case ["port", container, port]:
            cluster = container.removesuffix("-control-plane")
            mappings = known.get("clusters", {}).get(cluster)
            if mappings is None:
                fail(f"Error response from daemon: No such container: {container}")
            if port not in mappings:
                fail(f"Error: No public port '{port}' published for {container}")
            served = known["ingress"].get(port, f"127.0.0.1:{mappings[port]}")
            return f"{served}\n"
    return fail(f"docker: unknown command: {' '.join(words)}")


if __name__ == "__main__":
    with world("docker") as known:
        sys.stdout.write(answer(known, *split(sys.argv[1:])))
