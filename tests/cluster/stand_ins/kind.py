"""Stands in for kind.

:source: kind v0.31.0, ``pkg/cmd``, ``pkg/cluster/internal/create``, ``.../kubeconfig``
"""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from pytest_grpclb.clusters.api.kube import KubeApi, Resource
from tests.cluster.stand_ins.world import STATE, fail, split, world

_RUN = (
    'ERROR: failed to create cluster: command "docker run --name {name}-control-plane ..." failed '
    "with error: exit status 125\n\nCommand Output: 924bc56918b8\n"
    "docker: Error response from daemon: failed to set up container networking: driver failed "
    "programming external connectivity on endpoint {name}-control-plane: "
    "Bind for 127.0.0.1:40080 failed: port is already allocated\n\n"
    "Run 'docker run --help' for more information"
)

_IMPORT = (
    'ERROR: failed to load image: command "docker exec --privileged -i {name}-control-plane ctr '
    '--namespace=k8s.io images import --all-platforms --digests --snapshotter=overlayfs -" failed '
    "with error: exit status 1\n\nCommand Output: ctr: content digest sha256:70eae92: not found"
)

_UNKNOWN = {
    "kubeconfig": "ERROR: could not locate any control plane nodes for cluster named '{name}'. "
    "Use the --name option to select a different cluster",
    "logs": 'ERROR: unknown cluster "{name}"',
}


def write_kubeconfig(known: dict[str, Any], name: str, path: str) -> None:
    """Merge the cluster into a kubeconfig, as its current context."""
    config = json.loads(Path(known["kubeconfig"]).read_text())
    context = f"kind-{name}"
    config["current-context"] = context
    for key in ("clusters", "users", "contexts"):
        config[key][0]["name"] = context
    config["contexts"][0]["context"] = {"cluster": context, "user": context}
    address = (known.get("config", {}).get("networking") or {}).get("apiServerAddress")
    if address:
        cluster = config["clusters"][0]["cluster"]
        cluster["server"] = re.sub(r"//[^:]+:", f"//{address}:", cluster["server"])
    target = Path(path)
    text = target.read_text() if target.exists() else ""
    before = yaml.safe_load(text) or {}
    for key in ("clusters", "users", "contexts"):
        others = [each for each in before.get(key) or () if each["name"] != context]
        config[key] = others + config[key]
    target.write_text(yaml.safe_dump(config))
    name_node(Path(known["kubeconfig"]), f"{name}-control-plane")


def name_node(kubeconfig: Path, hostname: str) -> None:
    """Have the embedded cluster's node called as kind calls its first control plane."""
    context = json.loads(kubeconfig.read_text())["current-context"]
    api = KubeApi(kubeconfig, context)
    nodes = Resource("v1", "nodes", namespaced=False)
    [node] = api.list(nodes)
    api.request(
        "PATCH",
        nodes.path("", node["metadata"]["name"]),
        body={"metadata": {"labels": {"kubernetes.io/hostname": hostname}}},
        content_type="application/merge-patch+json",
        repeatable=True,
    )
    api.close()


def create(known: dict[str, Any], flags: dict[str, str]) -> None:
    name, clusters = flags["name"], known.setdefault("clusters", {})
    config = yaml.safe_load(Path(flags["config"]).read_text())
    if name in clusters:
        fail(
            "ERROR: failed to create cluster: node(s) already exist for a cluster with the name "
            f'"{name}"'
        )
    sys.stderr.write(f'Creating cluster "{name}" ...\n')
    known["config"] = config
    wanted = config["nodes"][0]["extraPortMappings"]
    mappings = {
        f"{each['containerPort']}/tcp": each.get("hostPort") or 40000 + each["containerPort"]
        for each in wanted
    }
    if "retain" in flags:
        clusters[name] = mappings
    if known.get("port_collisions", 0):
        known["port_collisions"] -= 1
        fail(_RUN.format(name=name))
    if known.get("kubeadm_fails"):
        fail('ERROR: failed to create cluster: failed to init node with kubeadm: command "docker"')
    clusters[name] = mappings
    if known.get("never_ready"):
        sys.stderr.write(" • WARNING: Timed out waiting for Ready ⚠️\n")  # and that is no failure
    write_kubeconfig(known, name, flags["kubeconfig"])


def answer(known: dict[str, Any], words: list[str], flags: dict[str, str]) -> str:  # noqa: C901, PLR0911 - one for each command
    clusters = known.setdefault("clusters", {})
    name = flags.get("name", "kind")
    match words:
        case ["version"]:
            return f"kind {known.get('kind_version', 'v0.31.0')} go1.25.5 linux/amd64\n"
        case ["get", "clusters"]:
            if not clusters:
                sys.stderr.write("No kind clusters found.\n")
            return "".join(f"{each}\n" for each in sorted(clusters))
        case ["create", "cluster"]:
            create(known, flags)
            return ""
        case ["delete", "cluster"]:
            sys.stderr.write(f'Deleting cluster "{name}" ...\n')
            clusters.pop(name, None)
            return ""
    if words[:2] == ["load", "image-archive"] and not Path(words[2]).is_file():
        fail(f"ERROR: stat {words[2]}: no such file or directory")
    if name not in clusters:
        fail(_UNKNOWN.get(words[1], 'ERROR: no nodes found for cluster "{name}"').format(name=name))
    match words:
        case ["export", "kubeconfig"]:
            write_kubeconfig(known, name, flags["kubeconfig"])
            sys.stderr.write(f'Set kubectl context to "kind-{name}"\n')
            return ""
        case ["export", "logs", folder]:
            node = Path(folder) / f"{name}-control-plane"
            node.mkdir(parents=True)
            (node / "kubelet.log").write_text("kubelet: no cgroups\n")
            sys.stderr.write(f'Exporting logs for cluster "{name}" to:\n')
            return f"{folder}\n"
        case ["load", "image-archive", archive]:
            if Path(archive).read_text().endswith(" and a list"):
                fail(_IMPORT.format(name=name))
            known.setdefault("loaded", []).append(Path(archive).read_text())
            return ""
    return fail(f'ERROR: unknown command "{" ".join(words)}" for "kind"')


def hang() -> None:
    """Be at it for ever, as kind is for a minute: the nodes run, the control plane does not."""
    (STATE / "hanging").touch()
    signal.pause()


if __name__ == "__main__":
    words, flags = split(sys.argv[1:])
    with world("kind") as known:
        sys.stdout.write(answer(known, words, flags))
    if words[0] == "create" and known.get("create_hangs"):
        hang()
