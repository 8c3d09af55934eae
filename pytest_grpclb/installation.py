"""Puts a service, a strategy and a driver into a namespace, and hands out the `Grpclb` on them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.version import kube_version
from pytest_grpclb.clusters.pods.readiness import with_gate
from pytest_grpclb.clusters.pull_secrets import copied_secrets
from pytest_grpclb.deployment import Deployment
from pytest_grpclb.errors import ChartError
from pytest_grpclb.freezing import Freezer
from pytest_grpclb.handle import Grpclb
from pytest_grpclb.launching import Launcher
from pytest_grpclb.lending import delete_abandoned, lent, resized
from pytest_grpclb.model import CallTemplate, NamedCall
from pytest_grpclb.rendering import DRIVER, StrategyChart, asked_by_ipv6, is_driver
from pytest_grpclb.settings import OwnPods, TypeSource
from pytest_grpclb.ways import way_inside, way_outside
from pytest_grpclb.workloads import components_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from pytest_grpclb.calls.reflection import Exchange
    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.model import Manifest, Service, Target, Timers, Verdict
    from pytest_grpclb.outside import OutsideDriver
    from pytest_grpclb.recording import ChannelMaker
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.sources.protocol import Backends
    from pytest_grpclb.sources.tls import Tls
    from pytest_grpclb.strategies import Strategy

__all__ = ["install"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_RELEASE = "grpclb"
"""Helm release name of the strategy chart; each test has a namespace of its own."""
_REFLECTION = TypeSource()
_AS_CHARTED = OwnPods()


def install(  # noqa: C901, PLR0915 - the one list of what is done, in its order
    stack: ExitStack,
    *,
    cluster: Cluster,
    api: KubeApi,
    strategy: Strategy,
    settings: Settings,
    backends: Backends,
    namespace: str,
    call: CallTemplate | NamedCall,
    types: TypeSource = _REFLECTION,
    outside: OutsideDriver,
    run: str,
    stream: CallTemplate | None = None,
    tls: Tls | None = None,
    own_pods: OwnPods = _AS_CHARTED,
    observer: Callable[[Verdict], None] | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Grpclb:
    """Put backends, strategy and driver into *namespace* and wait until all of them are ready.

    :param stack: takes what must be closed afterwards; objects in the namespace go with it
    :param namespace: the test's own; the strategy's objects go to the backends', for Services and
        Ingresses lead to pods of their own namespace only
    :param call: what is sent
    :param stream: what is opened where streams are asked for; the call if not given
    :param types: where those of calls are found
    :param outside: sends the calls where they come from outside the cluster
    :param run: label of all that the run makes
    :param tell: shows a line to the user at the end of the run
    :param tls: what clients need of a service that speaks TLS itself
    :param own_pods: how the pods that are made here are on the cluster
    :raises ClusterUnavailableError: if the cluster lacks what the strategy needs
    :raises ChartError: if the strategy's chart does not render
    :raises ServiceError: if the service and the strategy do not fit together
    :raises OptionError: if a Secret for pulling images cannot be copied
    :raises ApiError: if the cluster refuses an object
    :raises NotReadyError: if the pods do not get ready in time
    :raises CallError: if the call cannot be made: its method or request does not fit the service
    :raises TypesError: if its types cannot be had
    """
    from pytest_grpclb.calls import Resolver

    resolver = Resolver(source=types)
    early = resolver.early(call)
    service = replace(backends.service, domain=own_pods.cluster_domain)
    manifests = backends.manifests
    if settings.readiness_gate:
        manifests = tuple(with_gate(manifests))
    # In somebody else's namespace names must be the run's own.
    release = namespace if backends.borrowed else _RELEASE
    if backends.borrowed:
        settings = replace(settings, ingress=settings.ingress.beside(namespace))
        own_pods = own_pods.beside(namespace)
        delete_abandoned(api, service.namespace, tell=tell)
    pulling = copied_secrets(api, own_pods.pull_secrets)
    chart = StrategyChart(
        strategy=strategy,
        cluster=cluster,
        service=service,
        settings=settings,
        release=release,
        tls=tls,
        own_pods=own_pods,
        kube_version=kube_version(api),
    )
    # Where somebody else's pods run already, they tell; others do when they are ready.
    rendered = chart.rendered(ipv6=backends.borrowed and asked_by_ipv6(api, service))
    target = strategy.target(service, settings, release=release)
    if tls is not None:
        target = tls.secured(target, strategy.name, settings)
    secrets = None
    if target.through_ingress:
        from pytest_grpclb.entrance import make_secrets

        cluster.ingress_address(https=True)  # before anything is made, if it cannot be had
        outside.start()
        secrets = make_secrets(
            stack,
            api=api,
            settings=settings.ingress,
            service=service,
            run=run,
            borrowed=backends.borrowed,
        )
    later = _placed(
        stack,
        api,
        backends=replace(backends, manifests=manifests),
        pulling=pulling,
        rendered=rendered,
        namespace=namespace,
        run=run,
        waits=lambda manifest: bool(cluster.dns_cache_s) and is_driver(manifest),
    )
    # The import of gRPC takes as long as the first pods do to start.
    from pytest_grpclb.driver import DriverClient

    def watched(service: Service, **more: Any) -> Deployment:
        deployment = Deployment(api, service, ready_timeout_s=settings.ready_timeout_s, **more)
        stack.callback(deployment.close)
        return deployment

    namespace = service.namespace
    components = components_of(rendered, namespace=namespace)
    found = components.pop(DRIVER, None)
    if found is None and secrets is None:
        raise ChartError(chart.path.name, message="it has no Deployment of the component 'driver'")
    client = None if found is None else watched(found.service)
    deployment = watched(
        service,
        gated=settings.readiness_gate,
        crashes_allowed=backends.crashes_allowed,
        may_change=backends.may_change,
    )
    others = {name: watched(each.service) for name, each in components.items()}
    # The backends first: without them a sidecar has no hosts, and is not ready either.
    deployment.wait_ready(backends.replicas)
    if later and asked_by_ipv6(api, service):
        again = chart.rendered(ipv6=True)
        later = [each for each in again if each not in rendered or is_driver(each)]
        rendered = again
    api.apply(later, namespace=namespace)
    if client is not None:
        client.wait_ready(1)
    for name, each in components.items():
        others[name].wait_ready(each.replicas)
    if secrets is not None:
        from pytest_grpclb.entrance import open_entrance

        entrance = open_entrance(
            cluster=cluster,
            api=api,
            settings=settings,
            secrets=secrets,
            rendered=rendered,
            namespace=namespace,
            target=target,
            call=early,
            outside=outside,
        )
        way = way_outside(entrance, identify=deployment.watch.uid_of)
    else:
        assert client is not None  # else there are secrets
        way = way_inside(
            stack,
            cluster=cluster,
            client=client,
            rendered=rendered,
            service=service,
            target=target,
        )
    driver = DriverClient(
        way.driver_address,
        identify=deployment.watch.uid_of,
        explain=way.explain,
        has_ended=way.has_ended,
    )
    stack.callback(driver.close)
    resolver.exchange = _exchange(driver.exchange, way.target)
    sent = resolver.template(call, calls=1)
    freezer = Freezer(
        strategy=strategy,
        settings=settings,
        target=way.target,
        timers=_timers(strategy, cluster, settings, through_ingress=target.through_ingress),
        watch=deployment.watch,
        picker=way.picker,
        observer=observer,
    )
    return Grpclb(
        launcher=Launcher(freezer=freezer, deployment=deployment, driver=driver, resolver=resolver),
        deployment=deployment,
        call=sent if isinstance(call, CallTemplate) else call,
        stream=stream or sent,
        components=others,
        open_channels=functools.partial(_channel_maker, freezer, cluster, deployment, client),
        client=client,
        ingress=way.ingress and replace(way.ingress, call=sent),
    )


def _timers(
    strategy: Strategy, cluster: Cluster, settings: Settings, *, through_ingress: bool
) -> Timers:
    """Return the strategy's timers, with what the cluster adds to them."""
    timers = strategy.timers(settings, dns_ttl_s=cluster.dns_cache_s)
    push_s = timers.push_s
    if through_ingress and push_s is not None:
        push_s = max(push_s, cluster.ingress_push_s)
    return replace(timers, kill_s=cluster.kill_s, push_s=push_s)


def _placed(
    stack: ExitStack,
    api: KubeApi,
    *,
    backends: Backends,
    pulling: Sequence[Manifest],
    rendered: Sequence[Manifest],
    namespace: str,
    run: str,
    waits: Callable[[Manifest], bool],
) -> list[Manifest]:
    """Make the objects, and return those that are to be made when the backends are ready.

    :param pulling: what nodes need to pull the pods' images
    :param waits: whether one is: where DNS caches, an Envoy that asks for pods too early is told
        for half a minute that there are none
    """
    if backends.borrowed:
        place = backends.service.namespace
        stack.enter_context(lent(api, [*pulling, *rendered], namespace=place, run=run))
        if backends.may_change:
            stack.enter_context(resized(api, backends.service, backends.replicas))
        return []
    later = [each for each in rendered if waits(each)]
    first = [each for each in rendered if each not in later]
    api.apply([*pulling, *backends.manifests, *first], namespace=namespace)
    return later


def _channel_maker(
    freezer: Freezer, cluster: Cluster, deployment: Deployment, client: Deployment | None
) -> ChannelMaker:
    from pytest_grpclb.recording import ChannelMaker

    return ChannelMaker(
        freezer,
        dns_address=getattr(cluster, "dns_address", ""),  # only where pods can be reached as well
        beside="" if client is None else client.serving()[0].address,
        cluster=cluster.context,
        backends=deployment.backends,
    )


def _exchange(send: Callable[[Any], tuple[list[bytes], int, str]], target: Target) -> Exchange:
    """Lead questions to the service the way of its calls: the one way that every cluster has.

    A port-forward to a pod would need rights that calls do not, and a proxy of its TLS.
    """
    from pytest_grpclb.driver.plan import Plan

    def exchange(method: str, requests: Sequence[bytes]) -> tuple[list[bytes], int, str]:
        call = CallTemplate(method=method, requests=tuple(requests))
        return send(Plan(target=target, call=call))

    return exchange
