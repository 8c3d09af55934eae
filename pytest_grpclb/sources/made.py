"""Backends from an image alone: the Deployment that a service needs which brings none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import Service
from pytest_grpclb.sources.choice import Probe
from pytest_grpclb.sources.fitting import applicable
from pytest_grpclb.sources.protocol import Backends
from pytest_grpclb.sources.rendered import age_variables, read_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.sources.choice import AgeVariable

__all__ = ["DEFAULT_PORT", "ImageSource"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

DEFAULT_PORT = 50051
"""What gRPC's own examples listen on, in every language."""

_NAME = "service"
_LABELS = {"app.kubernetes.io/name": _NAME, "app.kubernetes.io/component": "backend"}
_CRASHES_ALLOWED = 2
"""Nothing that such a service could wait for comes up after it, as parts of a chart may."""
_FIELDS = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_IP": "status.podIP",
    "POD_UID": "metadata.uid",
}
"""Variables that tell a pod who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """Where the backends come from: an image, which listens on one port."""

    image: str
    port: int = DEFAULT_PORT
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_from: tuple[tuple[str, str], ...] = ()
    """Kind and name of config maps and secrets whose entries become variables."""
    probe: Probe = Probe.GRPC
    connection_age: AgeVariable | None = None
    manifests: tuple[str, ...] = ()
    """Files of what else the pods need, such as config maps."""
    root: Path
    skipped_kinds: frozenset[str] = frozenset()
    pull_secrets: tuple[str, ...] = ()
    """Names of the Secrets by which nodes may pull the image."""

    def backends(self, api: KubeApi, settings: Settings, *, namespace: str) -> Backends:
        """Describe a Deployment of the image, and what else its pods need.

        :raises ServiceError: if a file is not there, or the cluster lacks something
        """
        beside = applicable(
            read_files(self.manifests, self.root),
            api,
            source="--grpclb-manifests",
            skipped_kinds=self.skipped_kinds,
        )
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": _NAME, "labels": _LABELS},
            "spec": {
                "replicas": settings.replicas,
                "selector": {"matchLabels": _LABELS},
                # As charts of services that lose no call have it: one goes when another is there.
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
                "template": {
                    "metadata": {"labels": _LABELS},
                    "spec": {
                        "enableServiceLinks": False,
                        **self._pulling(),
                        "containers": [self._container(settings)],
                    },
                },
            },
        }
        service = Service(
            name=_NAME, namespace=namespace, selector=_LABELS, port=self.port, deployment=_NAME
        )
        return Backends(
            service=service,
            manifests=(*beside, deployment),
            replicas=settings.replicas,
            crashes_allowed=_CRASHES_ALLOWED,
        )

    def _pulling(self) -> dict[str, Any]:
        secrets = [{"name": name} for name in self.pull_secrets]
        return {"imagePullSecrets": secrets} if secrets else {}

    def _container(self, settings: Settings) -> dict[str, Any]:
        own = {**age_variables(self.connection_age, settings), **self.environment}
        told = [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in _FIELDS.items()
            if name not in own
        ]
        container: dict[str, Any] = {
            "name": _NAME,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "env": [*told, *({"name": name, "value": value} for name, value in own.items())],
            "ports": [{"name": "grpc", "containerPort": self.port, "protocol": "TCP"}],
        }
        if self.environment_from:
            container["envFrom"] = [
                {f"{kind}Ref": {"name": name}} for kind, name in self.environment_from
            ]
        if self.probe is not Probe.NONE:
            way = {"grpc" if self.probe is Probe.GRPC else "tcpSocket": {"port": self.port}}
            # A service may take as long to start as the test waits for it.
            failures = math.ceil(settings.ready_timeout_s) + 1
            each_second = {"periodSeconds": 1, "timeoutSeconds": 1}
            container["startupProbe"] = {**way, **each_second, "failureThreshold": failures}
            container["readinessProbe"] = {**way, "periodSeconds": 2, "failureThreshold": 2}
        return container
