"""The ingress controller: found where there is one, installed into a kind cluster where not.

:source: ingress-nginx v1.15.1, its last release: user guide; the static manifest for kind; its
    ``nginx.tmpl``, where ``add-headers`` becomes ``more_set_headers``: that takes variables, and
    holds for answers of every status
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pytest_grpclb.clusters.api.execute import execute
from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, PODS, KubeApi, Resource
from pytest_grpclb.clusters.pods.describing import describe_pods
from pytest_grpclb.clusters.pods.hints import HOPELESS_WAITS
from pytest_grpclb.clusters.pods.watch import PodState, PodWatch, selector_text
from pytest_grpclb.errors import (
    ApiError,
    ClusterStartError,
    ClusterUnavailableError,
    CommandError,
)
from pytest_grpclb.model import UPSTREAM_HEADER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_grpclb.model import Manifest

__all__ = ["CONTROLLER", "IMAGE", "controllers", "ensure", "files", "manifests"]

CONTROLLER = "k8s.io/ingress-nginx"
"""What an IngressClass names as its controller."""
IMAGE = "registry.k8s.io/ingress-nginx/controller:v1.15.1"
_DIGEST = "sha256:594ceea76b01c592858f803f9ff4d2cb40542cae2060410b2c95f75907d659e1"
"""Of the image's index, for every architecture.

:source: chart ingress-nginx 4.15.1, ``controller.image.digest``
"""
_CLASS, _NAMESPACE, _NAME = "nginx", "ingress-nginx", "ingress-nginx-controller"
_CONTAINER = "controller"
"""Named wherever one is asked for: a mesh may have put another beside it."""
_SELECTOR = {
    "app.kubernetes.io/name": "ingress-nginx",
    "app.kubernetes.io/component": "controller",
}
_CLASSES = Resource("networking.k8s.io/v1", "ingressclasses", namespaced=False)
_READY_S = 300.0
"""An image of 100 MB to pull, on a line that may be slow; nginx itself is there in seconds."""
_SAVED_LINES = 10_000


def manifests(*, node: str, loaded: Collection[str] = ()) -> list[Manifest]:
    """Return what there is to install, in order.

    :param node: the one whose ports are mapped
    :param loaded: images that the nodes were given. One that comes by an archive has another digest
        than in its registry, so it is asked for by its tag
    """
    image = IMAGE if IMAGE in loaded else f"{IMAGE}@{_DIGEST}"
    text = Path(__file__).with_name("ingress-nginx.yaml").read_text()
    filled = text.replace(": NODE\n", f": {node}\n").replace(": IMAGE\n", f": {image}\n")
    return list(yaml.safe_load_all(filled.replace("  UPSTREAM_HEADER:", f"  {UPSTREAM_HEADER}:")))


def controllers(api: KubeApi) -> Mapping[str, str]:
    """Return the controller of every IngressClass, by the class's name.

    :raises ApiError: if they may not be listed (status 403)
    """
    return {
        each["metadata"]["name"]: each.get("spec", {}).get("controller", "")
        for each in api.list(_CLASSES)
    }


def ensure(
    api: KubeApi,
    *,
    provider: str,
    node: str,
    loaded: Collection[str] = (),
) -> bool:
    """Have an ingress controller of class nginx ready; one that is there already is used.

    One at a time in a cluster: whoever calls this sees to it.

    :return: whether it was installed by this call
    :raises ClusterUnavailableError: if the class belongs to another controller
    :raises ClusterStartError: if it is not ready in time, with what its pods say
    :raises ApiError: if the cluster refuses an object
    """
    found = controllers(api)
    if found.get(_CLASS, CONTROLLER) != CONTROLLER:
        raise ClusterUnavailableError(
            provider,
            reason=f"its IngressClass {_CLASS!r} belongs to the controller {found[_CLASS]!r}",
            advice=f"use a cluster where it is {CONTROLLER!r}, or that has no such class",
        )
    installed = _CLASS not in found
    if installed:
        api.apply(manifests(node=node, loaded=loaded), namespace=_NAMESPACE)
    elif not _is_ours(api):
        return (
            False  # somebody else's: where its pods are and when they are ready is theirs to know
        )
    _wait_ready(api, provider, _READY_S)
    return installed


def files(api: KubeApi) -> Mapping[str, str]:
    """Return what explains the controller's doings, by file name; never raises ApiError."""
    try:
        pods = api.list(PODS, _NAMESPACE, selector=selector_text(_SELECTOR))
    except ApiError as error:
        return {"ingress-controller.log": f"(its pods cannot be listed: {error})\n"}
    told: dict[str, str] = {}
    for pod in pods:
        name = pod["metadata"]["name"]
        try:
            told[f"{name}.log"] = api.logs(
                _NAMESPACE, name, container=_CONTAINER, lines=_SAVED_LINES
            )
        except (ApiError, ConnectionError) as error:
            told[f"{name}.log"] = f"(it cannot be read: {error})\n"
        try:
            text = execute(
                api, _NAMESPACE, name, "cat", "/etc/nginx/nginx.conf", container=_CONTAINER
            )
        except (ApiError, CommandError, ConnectionError) as error:
            text = f"(it cannot be read: {error})\n"
        told[f"{name}-nginx.conf"] = text
    return told


def _is_ours(api: KubeApi) -> bool:
    try:
        api.get(DEPLOYMENTS, _NAMESPACE, _NAME)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def _wait_ready(api: KubeApi, provider: str, timeout_s: float) -> None:
    watch = PodWatch(api, _NAMESPACE, _SELECTOR)
    try:
        watch.wait_for(
            lambda pods: any(pod.serves for pod in pods) or any(map(_hopeless, pods)),
            timeout_s=timeout_s,
        )
        if any(pod.serves for pod in watch.pods()):
            return
    finally:
        watch.close()
    told = describe_pods(api, _NAMESPACE, _SELECTOR)
    raise ClusterStartError(
        provider,
        reason=f"its ingress controller was not ready after {timeout_s:g} s; where its node cannot "
        f"pull {IMAGE}, pull it here and give --grpclb-load-image={IMAGE}; its pods say:\n{told}",
    )


def _hopeless(pod: PodState) -> bool:
    return any(
        status.get("state", {}).get("waiting", {}).get("reason") in HOPELESS_WAITS
        for status in pod.manifest.get("status", {}).get("containerStatuses", ())
    )
