"""The parts of one cluster, put together."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded import controllers
from pytest_grpclb.clusters.embedded.access import Access, write_private
from pytest_grpclb.clusters.embedded.api import discovery
from pytest_grpclb.clusters.embedded.api.accounts import Accounts
from pytest_grpclb.clusters.embedded.api.api import Api
from pytest_grpclb.clusters.embedded.api.https import Server, serve
from pytest_grpclb.clusters.embedded.controllers.services import ServiceAddresses
from pytest_grpclb.clusters.embedded.ingress.controller import IngressController
from pytest_grpclb.clusters.embedded.ingress.nginx_conf import Places
from pytest_grpclb.clusters.embedded.network.clusterip import ServiceProxies
from pytest_grpclb.clusters.embedded.network.dns import DOMAIN, Zone
from pytest_grpclb.clusters.embedded.network.nameserver import NameServer
from pytest_grpclb.clusters.embedded.network.network import API_PORT, DNS_PORT, Block, listen
from pytest_grpclb.clusters.embedded.node.images import Images
from pytest_grpclb.clusters.embedded.node.log_files import LogFiles
from pytest_grpclb.clusters.embedded.node.node import Node, base_environment
from pytest_grpclb.clusters.embedded.node.runner import Runner
from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.node.processes import Processes

__all__ = ["Assembly"]

_LOG = logging.getLogger(__name__)


class Assembly:
    """One cluster: opened once, closed once."""

    def __init__(
        self,
        directory: Path,
        block: Block,
        processes: Processes,
        images: Mapping[str, Sequence[str]],
        *,
        commands_directory: Path,
    ) -> None:
        self._block, self._processes = block, processes
        self._images = Images(images)
        self._commands_directory = commands_directory
        self._pods = directory / "pods"
        self._ingress_directory = directory / "ingress"
        self.ingress = _ingress_places(block.ingress)
        """Where an Ingress's hosts are served."""
        self.kubeconfig = directory / "kubeconfig"
        self.context = f"pytest-grpclb-127.{block.number}"
        self._store = Store()

    async def open(self) -> None:
        """Start everything; when this returns, the API answers.

        :raises AddressInUseError: if there is no port for the DNS
        """
        store, block = self._store, self._block
        self._pods.mkdir()
        access = Access(block.api, DOMAIN)
        services = ServiceAddresses(store, block.services())
        logs = LogFiles(store, self._pods)
        accounts = Accounts(store, authority_pem=access.authority_pem)
        api = Api(
            store,
            token=access.token,
            accounts=accounts,
            log_reader=logs.read,
            admit=services.admit,
        )
        self._server = await _serve_api(api, block.api, access)
        stream, datagrams = listen(block.dns, DNS_PORT, purpose="the cluster's DNS", datagrams=True)
        self.dns = "{}:{}".format(*datagrams.getsockname())
        self._names = NameServer(Zone(store))
        await self._names.serve(stream, datagrams)

        loop = asyncio.get_running_loop()
        controllers.Manager(
            store,
            controllers.controllers(store),
            soon=loop.call_soon,
            later=loop.call_later,
            report=lambda controller, key, error: _LOG.error(
                "%s %s", type(controller).__name__, key, exc_info=error
            ),
        )
        self._proxies = ServiceProxies(store)
        place = (block.api, self._server.port)
        version = (discovery.describe("/version") or {})["gitVersion"]
        controllers.bootstrap(store, node_address=block.node, api=place, version=version)
        node = store.get("nodes", controllers.NODE)
        Runner(
            Node(
                name=controllers.NODE,
                address=block.node,
                labels=node["metadata"]["labels"],
                store=store,
                processes=self._processes,
                images=self._images,
                recorder=Recorder(store, "kubelet", controllers.NODE),
                addresses=block.pods(),
                directory=self._pods,
                commands_directory=self._commands_directory,
                environment=base_environment(dns=datagrams.getsockname(), api=place),
                account_files=accounts.files,
            )
        )
        self._ingress = IngressController(
            store,
            self._processes,
            directory=self._ingress_directory,
            places=self.ingress,
            environment=base_environment(dns=datagrams.getsockname(), api=place),
        )
        server = f"https://{place[0]}:{place[1]}"
        write_private(self.kubeconfig, access.kubeconfig(server, self.context))

    async def close(self) -> None:
        """Let go of clients at once; the processes of pods are the zygote's to end."""
        self._ingress.close()
        self._proxies.close()
        await self._server.close(grace_s=0)


def _ingress_places(address: str) -> Places:
    """Choose ports for nginx, which is not started before it has something to do.

    80 and 443 would need a privilege.
    """
    chosen = []
    for port, purpose in ((8080, "http"), (8443, "https"), (8442, "https beside passthrough")):
        [stream] = listen(address, port, purpose=f"the ingress ({purpose})")
        chosen.append((address, int(stream.getsockname()[1])))
        stream.close()
    http, https, inner = chosen
    return Places(http=http, https=https, inner=inner)


async def _serve_api(api: Api, address: str, access: Access) -> Server:
    context = access.server_context()
    try:
        return await serve(api, address, API_PORT, context)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    # Another Kubernetes of this machine listens on that port of all addresses; any other will do.
    return await serve(api, address, 0, context)
