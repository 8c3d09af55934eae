"""What a container's process is started with: its command, environment, directory and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.node.environment import expand, variables
from pytest_grpclb.clusters.embedded.node.images import CommandLine
from pytest_grpclb.clusters.embedded.node.processes import Order
from pytest_grpclb.clusters.embedded.node.volumes import SERVICE_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb.clusters.embedded.node.sandbox import Sandbox
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["order_of"]


def order_of(
    sandbox: Sandbox, spec: Object, *, run: int, instead: Sequence[str] | None = None
) -> Order:
    """Return the order for the zygote.

    :param run: which of its lives it is, from 0
    :param instead: a command to run in the container in place of its own
    :raises ImageError: if nothing stands for the image
    :raises ConfigError: if something that the container refers to is not there
    """
    pod, name = sandbox.pod, spec["name"]
    mounts = sandbox.directory.mounts(pod, spec, account=bool(sandbox.account))
    base = {
        **sandbox.node.environment,
        "GRPCLB_LISTEN_IP": sandbox.ip,
        "GRPCLB_ROOT": str(mounts.root),
        "HOME": str(mounts.root),
        "HOSTNAME": pod["metadata"]["name"],
    }
    if sandbox.account:
        base["GRPCLB_SERVICEACCOUNT_DIR"] = mounts.rewrite(SERVICE_ACCOUNT)
    environment = variables(sandbox.node.store, pod, spec, base)
    own = set(environment.items()) - set(base.items())
    environment |= {key: mounts.rewrite(value) for key, value in own}

    def expanded(field_name: str) -> list[str]:
        parts = spec.get(field_name) or ()
        return [mounts.rewrite(expand(part, environment)) for part in parts]

    line = sandbox.node.images.command_line(
        spec,
        arguments=expanded("args"),
        command=expanded("command"),
        ip=sandbox.ip,
        root=str(mounts.root),
    )
    directory = mounts.root if line.own else sandbox.node.commands_directory
    if spec.get("workingDir"):
        directory = mounts.root / spec["workingDir"].lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
    unnamed = {} if line.own else mounts.unnamed((*line.arguments, *environment.values()))
    if instead is not None:
        command = tuple(mounts.rewrite(part) for part in instead)
        line = CommandLine(arguments=command, own=False)
    return Order(
        arguments=line.arguments,
        own=line.own,
        environment=environment,
        directory=directory,
        private_port=line.private_port,
        log=sandbox.directory.log(name, run),
        unnamed_mounts=unnamed,
    )
