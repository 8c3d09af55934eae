"""What a run puts into a namespace that is somebody else's, and how all is as it was afterwards.

Services and Ingresses lead to pods of their own namespace only, so a strategy before a service that
runs already has to be set up there. Only objects that the run made, under names of its own and with
its label, are deleted: after the test, or by a later run where a process was killed meanwhile.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, STATEFULSETS
from pytest_grpclb.clusters.namespaces import (
    ABANDONED_AFTER,
    MANAGED_BY,
    MANAGER,
    RUN_LABEL,
)
from pytest_grpclb.errors import ApiError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.model import Manifest, Service

__all__ = ["delete_abandoned", "lent", "resized"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_KINDS = (
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.k8s.io/v1", "Ingress"),
)
"""What strategies are made of; what else their controllers make goes with it."""
_FORBIDDEN = 403
_NOT_TOLD = frozenset({_FORBIDDEN, 404})
"""The user may not list objects of a kind, or the cluster does not know it."""


def delete_abandoned(
    api: KubeApi,
    namespace: str,
    *,
    tell: Callable[[str], None],
    now: datetime | None = None,
) -> None:
    """Delete what runs have left in somebody else's namespace that died, by label and age.

    :param tell: is told of each object that was deleted, or that this user may not delete
    :raises ApiError: if the cluster cannot be reached
    """
    limit = (now or datetime.now(UTC)) - ABANDONED_AFTER
    for api_version, kind in _KINDS:
        try:
            where = api.resource(api_version, kind)
            found = api.list(where, namespace, selector=f"{MANAGED_BY}={MANAGER},{RUN_LABEL}")
        except ApiError as error:
            if error.status in _NOT_TOLD:
                continue
            raise
        for metadata in (each["metadata"] for each in found):
            made_at = datetime.fromisoformat(metadata["creationTimestamp"])
            if made_at >= limit or "deletionTimestamp" in metadata:
                continue
            what = f"{kind} {metadata['name']!r} of a run that died, in the namespace {namespace!r}"
            try:
                api.delete(where, namespace, metadata["name"], uid=metadata["uid"])
            except ApiError as error:
                if error.status != _FORBIDDEN:
                    raise
                tell(f"grpclb: this user may not delete {what}")
            else:
                tell(f"grpclb: deleted {what}")


@contextmanager
def lent(
    api: KubeApi, manifests: Sequence[Manifest], *, namespace: str, run: str
) -> Iterator[None]:
    """Create objects in a namespace that has other things in it, and delete them afterwards.

    :raises ServiceError: if an object of that name is there already
    :raises ApiError: if the cluster refuses one
    """
    labels = {MANAGED_BY: MANAGER, RUN_LABEL: run}
    tried: list[Manifest] = []
    try:
        for manifest in manifests:
            metadata = manifest["metadata"]
            if _there(api, manifest, namespace) is not None:
                raise ServiceError(
                    "--grpclb-service",
                    message=f"the strategy needs a {manifest['kind']} {metadata['name']!r} in the "
                    f"namespace {namespace!r}, which has one already",
                    advice="if no other run uses it, delete it",
                )
            tried.append(manifest)
            labelled = {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}
            api.apply([{**manifest, "metadata": labelled}], namespace=namespace)
        yield
    finally:
        # Looked up: where creating was interrupted, the API may have done it all the same.
        for manifest in reversed(tried):
            found = _there(api, manifest, namespace)
            if found is not None and labels.items() <= (found.get("labels") or {}).items():
                where = api.resource(manifest["apiVersion"], manifest["kind"])
                api.delete(where, namespace, found["name"], uid=found["uid"])


def _there(api: KubeApi, manifest: Manifest, namespace: str) -> dict[str, Any] | None:
    """Return the metadata of the object of that kind and name; None: there is none."""
    where = api.resource(manifest["apiVersion"], manifest["kind"])
    try:
        found = api.get(where, namespace, manifest["metadata"]["name"])
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    metadata: dict[str, Any] = found["metadata"]
    return metadata


@contextmanager
def resized(api: KubeApi, service: Service, replicas: int) -> Iterator[None]:
    """Give somebody else's workload so many replicas, and afterwards as many as it had.

    :raises ApiError: if the cluster refuses that
    """
    where = STATEFULSETS if service.kind == "StatefulSet" else DEPLOYMENTS
    path = where.path(service.namespace, service.deployment, "scale")

    def resize(size: int) -> None:
        api.request(
            "PATCH",
            path,
            body={"spec": {"replicas": size}},
            content_type="application/merge-patch+json",
            repeatable=True,
        )

    before = int(api.request("GET", path)["spec"].get("replicas", 0))
    try:
        resize(replicas)
        yield
    finally:
        resize(before)
