"""What a test needs whose calls come from outside: certificates, an Ingress, a driver outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_grpclb.certificates import Authority, generic_secret, tls_secret
from pytest_grpclb.deployment import temporary_namespace
from pytest_grpclb.ingress import Ingress
from pytest_grpclb.lending import lent
from pytest_grpclb.strategies.ingress_nginx import BACKEND_SECRET

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from pytest_grpclb.certificates import Keypair
    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.model import CallTemplate, Manifest, Service, Target
    from pytest_grpclb.outside import OutsideDriver
    from pytest_grpclb.settings import IngressSettings, Settings

__all__ = ["Entrance", "Secrets", "make_secrets", "open_entrance"]

_ANSWERING_S = 10.0
"""A controller takes an Ingress up in a second or two; who waits longer waits in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Where calls from outside come in, and who sends them."""

    ingress: Ingress
    target: Target
    """The strategy's, led to where the ingress really listens."""
    driver_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What was put into the cluster's Secrets."""

    authority_pem: bytes
    """Who vouches for every certificate."""
    keypair: Keypair
    """The Ingress's own."""


def make_secrets(
    stack: ExitStack,
    *,
    api: KubeApi,
    settings: IngressSettings,
    service: Service,
    run: str,
    borrowed: bool = False,
) -> Secrets:
    """Issue the certificates and put them into Secrets, where the settings want them.

    :param run: label of a namespace that is made where the Secret is to be in another one
    :param borrowed: whether the service's namespace is somebody else's: the Secret is deleted with
        the stack, and pods that are there are given none
    :raises ServiceError: if a Secret of that name is there already, and somebody else's
    :raises ApiError: if the cluster refuses them
    """
    authority = Authority()
    host = settings.host_in(service.namespace)
    wildcard = f"*.{host.partition('.')[2]}"
    names = ["wrong.example.org"] if settings.certificate == "wrong-host" else [wildcard]
    keypair = authority.issue(*names, expired=settings.certificate == "expired")
    namespace = service.namespace
    if settings.tls == "end-to-end" and not borrowed:
        # The host as well: with ssl-passthrough it is the pods' certificate that clients see.
        backend = authority.issue(service.host(service.name), host)
        api.apply([tls_secret(BACKEND_SECRET, backend)], namespace=namespace)
    made = Secrets(authority_pem=authority.pem, keypair=keypair)
    if settings.certificate == "missing":
        return made
    make = generic_secret if settings.certificate == "wrong-type" else tls_secret
    secret = make(settings.secret_name, keypair)
    if settings.certificate == "other-namespace":
        namespace = stack.enter_context(temporary_namespace(api, f"{namespace}-other", run=run))
    elif borrowed:
        stack.enter_context(lent(api, [secret], namespace=namespace, run=run))
        return made
    api.apply([secret], namespace=namespace)
    return made


def open_entrance(
    *,
    cluster: Cluster,
    api: KubeApi,
    settings: Settings,
    secrets: Secrets,
    rendered: Sequence[Manifest],
    namespace: str,
    target: Target,
    call: CallTemplate,
    outside: OutsideDriver,
) -> Entrance:
    """Wait until calls can come in by the Ingress among *rendered*, or it is plain that none can.

    :raises ClusterUnavailableError: if the cluster has no ingress controller
    :raises DriverError: if the driver outside does not start
    """
    [name] = [each["metadata"]["name"] for each in rendered if each["kind"] == "Ingress"]
    host = settings.ingress.host_in(namespace)
    address = cluster.ingress_address(https=True)
    ingress = Ingress(
        name=name,
        namespace=namespace,
        address=address,
        http_address=cluster.ingress_address(https=False),
        host=host,
        tls=settings.ingress.tls,
        authority_pem=secrets.authority_pem,
        certificate_der=secrets.keypair.leaf_der,
        call=call,
        api=api,
        cluster=cluster,
        upstream_header=target.upstream_header,
    )
    ingress.wait_settled(min(settings.ready_timeout_s, _ANSWERING_S))
    return Entrance(
        ingress=ingress,
        target=replace(
            target,
            address=address,
            arguments=(*target.arguments, ("grpc.ssl_target_name_override", host)),
            authority_pem=secrets.authority_pem,
        ),
        driver_address=outside.wait(),
    )
