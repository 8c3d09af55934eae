"""The cluster process: API, controllers, DNS, ClusterIPs and the runner, in one event loop.

It is told what to do by one line of JSON on its standard input, and says by one line on its
standard output that it is ready, or why not. It ends, with everything that it started, when its
input closes (its parent has ended, however), on SIGTERM, or if the zygote is lost. Its output stays
open until the last of its processes is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.network.network import Block, claim_block
from pytest_grpclb.clusters.embedded.node import reaper
from pytest_grpclb.clusters.embedded.node.processes import Processes, Zygote
from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["main"]

_LOG = logging.getLogger(__name__)


def main() -> None:
    """Run a cluster until it is no longer wanted."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which will close its end
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    request = _read_request()
    if request is None:
        return
    reaper.become_subreaper()
    zygote = None
    try:
        claim = claim_block(request["blocks"])
        # The zygote holds the claim, too: addresses are free when the last pod has gone.
        zygote = Zygote(keep=[claim.holder.fileno()])
        asyncio.run(_serve(request, claim.block, zygote))
    except (GrpclbError, OSError) as error:
        _LOG.exception("the cluster cannot run")
        _tell(failed=str(error))
    finally:
        if zygote is not None:
            zygote.end()
        reaper.end_descendants()


def _read_request() -> dict[str, Any] | None:
    line = b""
    while not line.endswith(b"\n"):
        received = os.read(0, 1 << 16)
        if not received:
            return None
        line += received
    request: dict[str, Any] = json.loads(line)
    return request


def _tell(**what: object) -> None:
    try:
        os.write(1, json.dumps(what).encode() + b"\n")
    except BrokenPipeError:
        _LOG.warning("nobody is there to be told %s", what)


def _end_with_parent(over: asyncio.Event) -> None:
    if not os.read(0, 1 << 16):
        over.set()


async def _serve(request: Mapping[str, Any], block: Block, zygote: Zygote) -> None:
    # Imported here, so that the zygote imports gRPC meanwhile.
    from pytest_grpclb.clusters.embedded.assembly import Assembly

    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_reader(0, _end_with_parent, over)
    processes = await Processes.of(zygote)
    serving = asyncio.create_task(processes.serve())
    serving.add_done_callback(lambda _: over.set())
    assembly = Assembly(
        Path(request["directory"]),
        block,
        processes,
        request["images"],
        commands_directory=Path(request["commands_directory"]),
    )
    await assembly.open()
    _tell(
        kubeconfig=str(assembly.kubeconfig),
        context=assembly.context,
        dns=assembly.dns,
        ingress={"http": assembly.ingress.http, "https": assembly.ingress.https},
    )
    await over.wait()
    if serving.done():
        _LOG.error("the zygote has ended, and every pod with it; the cluster ends, too")
    loop.remove_reader(0)
    await assembly.close()


if __name__ == "__main__":
    main()
