"""What the API fills in where a manifest says nothing.

Every function returns a new object and leaves the one that it was given as it is.

:source: Kubernetes, ``pkg/apis/{core,apps,rbac,discovery}/v1*/defaults.go``
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["with_defaults"]

_RBAC_GROUP = "rbac.authorization.k8s.io"
_PROBE: Object = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HOOKS = ("postStart", "preStop")
_FILE_MODE = 0o644
_VOLUMES_WITH_MODE = ("configMap", "downwardAPI", "projected", "secret")


def with_defaults(kind: str, obj: Object) -> Object:
    """Return an object with everything filled in that its kind has a default for.

    :param kind: plural with group
    """
    fill = _BY_KIND.get(kind)
    return obj if fill is None else fill(obj)


def _with(defaults: Mapping[str, Any], given: Mapping[str, Any] | None) -> Object:
    return {**defaults, **(given or {})}


def _pod(pod: Object) -> Object:
    spec = {"enableServiceLinks": True, **_pod_spec(pod.get("spec") or {})}
    for key in ("containers", "initContainers"):
        if key in spec:
            spec[key] = [_requesting(container) for container in spec[key]]
    return {**pod, "spec": spec}


def _pod_spec(given: Object) -> Object:
    spec = _with(
        {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
        given,
    )
    for key in ("containers", "initContainers"):
        if key in spec:
            spec[key] = [_container(container) for container in spec[key]]
    if "volumes" in spec:
        spec["volumes"] = [_volume(volume) for volume in spec["volumes"]]
    if "serviceAccount" in spec or "serviceAccountName" in spec:
        # One field under two names, the older of which is still written beside the newer.
        name = spec.get("serviceAccountName") or spec.get("serviceAccount")
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    return spec


def _container(given: Object) -> Object:
    container = _with(
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": _pull_policy(given.get("image", "")),
        },
        given,
    )
    if "ports" in container:
        container["ports"] = [_with({"protocol": "TCP"}, port) for port in container["ports"]]
    if "env" in container:
        container["env"] = [_env(variable) for variable in container["env"]]
    for key in _PROBES:
        if key in container:
            container[key] = _handler(_with(_PROBE, container[key]))
    if "lifecycle" in container:
        container["lifecycle"] = {
            key: _handler(value) if key in _HOOKS else value
            for key, value in container["lifecycle"].items()
        }
    return container


def _pull_policy(image: str) -> str:
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if not digest and tag in {"", "latest"} else "IfNotPresent"


def _env(variable: Object) -> Object:
    source = variable.get("valueFrom") or {}
    if "fieldRef" not in source:
        return variable
    field = _with({"apiVersion": "v1"}, source["fieldRef"])
    return {**variable, "valueFrom": {**source, "fieldRef": field}}


def _handler(given: Object) -> Object:
    if "httpGet" in given:
        return {**given, "httpGet": _with({"path": "/", "scheme": "HTTP"}, given["httpGet"])}
    if "grpc" in given:
        return {**given, "grpc": _with({"service": ""}, given["grpc"])}
    return given


def _requesting(container: Object) -> Object:
    """Return a container that requests what it is limited to, where it says no less."""
    resources = container["resources"]
    if not resources.get("limits"):
        return container
    requests = {**resources["limits"], **(resources.get("requests") or {})}
    return {**container, "resources": {**resources, "requests": requests}}


def _volume(volume: Object) -> Object:
    if len(volume) == 1:
        return {**volume, "emptyDir": {}}
    for source in _VOLUMES_WITH_MODE:
        if source in volume:
            volume = {**volume, source: _with({"defaultMode": _FILE_MODE}, volume[source])}
    return volume


def _template(spec: Object) -> Object:
    if "template" not in spec:
        return spec
    template = spec["template"]
    return {**spec, "template": {**template, "spec": _pod_spec(template.get("spec") or {})}}


def _deployment(deployment: Object) -> Object:
    spec = _with(
        {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {},
        },
        _template(deployment.get("spec") or {}),
    )
    strategy = _with({"type": "RollingUpdate"}, spec["strategy"])
    if strategy["type"] == "RollingUpdate":
        strategy["rollingUpdate"] = _with(
            {"maxUnavailable": "25%", "maxSurge": "25%"}, strategy.get("rollingUpdate")
        )
    return {**deployment, "spec": {**spec, "strategy": strategy}}


def _replica_set(replica_set: Object) -> Object:
    spec = _with({"replicas": 1}, _template(replica_set.get("spec") or {}))
    return {**replica_set, "spec": spec}


def _stateful_set(stateful_set: Object) -> Object:
    spec = _with(
        {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {},
        },
        _template(stateful_set.get("spec") or {}),
    )
    strategy = _with({"type": "RollingUpdate"}, spec["updateStrategy"])
    if strategy["type"] == "RollingUpdate":
        strategy["rollingUpdate"] = _with({"partition": 0}, strategy.get("rollingUpdate"))
    return {**stateful_set, "spec": {**spec, "updateStrategy": strategy}}


def _service(service: Object) -> Object:
    given = service.get("spec") or {}
    spec = _with({"sessionAffinity": "None", "type": "ClusterIP"}, given)
    if spec["type"] != "ExternalName":
        spec = {
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            **spec,
        }
    if spec["type"] in {"NodePort", "LoadBalancer"}:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    if "ports" in spec:
        spec["ports"] = [
            _with({"protocol": "TCP", "targetPort": port.get("port")}, port)
            for port in spec["ports"]
        ]
    return {**service, "spec": spec}


def _secret(secret: Object) -> Object:
    result = _with({"type": "Opaque"}, secret)
    texts = result.pop("stringData", None)
    if texts:
        coded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        result["data"] = {**(result.get("data") or {}), **coded}
    return result


def _namespace(namespace: Object) -> Object:
    metadata = namespace["metadata"]
    labels = {**(metadata.get("labels") or {})}
    if "name" in metadata:
        labels["kubernetes.io/metadata.name"] = metadata["name"]
    return {
        **namespace,
        "metadata": {**metadata, "labels": labels},
        "spec": _with({"finalizers": ["kubernetes"]}, namespace.get("spec")),
    }


def _endpoint_slice(endpoint_slice: Object) -> Object:
    ports = [
        _with({"name": "", "protocol": "TCP"}, port) for port in endpoint_slice.get("ports") or ()
    ]
    return {**endpoint_slice, "ports": ports, "endpoints": endpoint_slice.get("endpoints") or []}


def _binding(binding: Object) -> Object:
    result = {**binding, "roleRef": _with({"apiGroup": _RBAC_GROUP}, binding.get("roleRef"))}
    if "subjects" in binding:
        result["subjects"] = [
            subject
            if subject.get("kind") == "ServiceAccount"
            else _with({"apiGroup": _RBAC_GROUP}, subject)
            for subject in binding["subjects"]
        ]
    return result


_BY_KIND: Mapping[str, Callable[[Object], Object]] = {
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "deployments.apps": _deployment,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "namespaces": _namespace,
    "pods": _pod,
    "replicasets.apps": _replica_set,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "secrets": _secret,
    "services": _service,
    "statefulsets.apps": _stateful_set,
}
