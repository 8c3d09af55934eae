"""What is refused, in the words of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.api.defaults import with_defaults
from pytest_grpclb.clusters.embedded.api.validation import validate
from pytest_grpclb.clusters.embedded.store.status import InvalidError

Json = dict[str, Any]


def deployment(template: Json | None = None, **spec: Any) -> Json:
    pod = {"containers": [{"name": "c", "image": "web:1"}], **(template or {})}
    return with_defaults(
        "deployments.apps",
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
                **spec,
            },
        },
    )


def pod(container: Json | None = None, **spec: Any) -> Json:
    containers = [{"name": "c", "image": "web:1", **(container or {})}]
    return with_defaults(
        "pods", {"metadata": {"name": "a"}, "spec": {"containers": containers, **spec}}
    )


def service(*ports: Json, **spec: Any) -> Json:
    return with_defaults(
        "services", {"metadata": {"name": "web"}, "spec": {"ports": list(ports), **spec}}
    )


def ingress(**spec: Any) -> Json:
    return {"metadata": {"name": "web"}, "spec": spec}


def complaints(kind: str, obj: Json, old: Json | None = None) -> list[str]:
    try:
        validate(kind, obj, old)
    except InvalidError as error:
        return [f"{cause['field']}: {cause['message']}" for cause in error.details["causes"]]
    return []


@pytest.mark.parametrize(
    ("kind", "obj"),
    [
        ("deployments.apps", deployment()),
        ("deployments.apps", deployment(strategy={"type": "Recreate"})),
        ("pods", pod()),
        (
            "pods",
            pod(
                {
                    "ports": [{"name": "grpc", "containerPort": 50051}],
                    "readinessProbe": {"grpc": {"port": 50051}},
                    "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                },
                volumes=[{"name": "v", "emptyDir": {}}],
            ),
        ),
        ("services", service({"port": 80, "targetPort": "grpc"})),
        ("services", service(clusterIP="None")),
        ("services", service(type="ExternalName", externalName="example.com")),
        (
            "ingresses.networking.k8s.io",
            ingress(defaultBackend={"service": {"name": "s", "port": {"number": 80}}}),
        ),
        ("configmaps", {"metadata": {"name": "a.b-c"}, "data": {"key.name": "1"}}),
        ("roles.rbac.authorization.k8s.io", {"metadata": {"name": "system:Node_1"}}),
    ],
)
def test_what_is_right_passes(kind: str, obj: Json) -> None:
    assert complaints(kind, obj) == []


def test_one_problem_is_told_whole() -> None:
    with pytest.raises(InvalidError) as caught:
        validate("deployments.apps", deployment(replicas=-1))
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be '
        "greater than or equal to 0",
        "reason": "Invalid",
        "code": 422,
        "details": {
            "name": "web",
            "group": "apps",
            "kind": "Deployment",
            "causes": [
                {
                    "reason": "FieldValueInvalid",
                    "message": "Invalid value: -1: must be greater than or equal to 0",
                    "field": "spec.replicas",
                }
            ],
        },
    }


def test_several_problems_are_told_together() -> None:
    with pytest.raises(InvalidError) as caught:
        validate("pods", {"metadata": {}, "spec": {"containers": [{"image": "x"}]}})
    assert str(caught.value) == (
        'Pod "" is invalid: [metadata.name: Required value: name or generateName is required, '
        "spec.containers[0].name: Required value]"
    )


PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
    "'93%', regex used for validation is '[0-9]+%')"
)


@pytest.mark.parametrize(
    ("obj", "complaint"),
    [
        (
            deployment(selector={"matchLabels": {"app": "other"}}),
            'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not '
            "match template `labels`",
        ),
        (
            deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is "
            "'Recreate'",
        ),
        (
            deployment(strategy={"type": "BlueGreen"}),
            'spec.strategy.type: Unsupported value: "BlueGreen": supported values: "Recreate", '
            '"RollingUpdate"',
        ),
        (
            deployment(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
            'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when '
            "`maxSurge` is 0",
        ),
        (
            deployment(strategy={"rollingUpdate": {"maxSurge": "some"}}),
            f'spec.strategy.rollingUpdate.maxSurge: Invalid value: "some": {PERCENT}',
        ),
        (
            deployment(progressDeadlineSeconds=5, minReadySeconds=5),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ),
        (
            deployment({"restartPolicy": "Never"}),
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: '
            '"Always"',
        ),
        (
            deployment({"containers": []}),
            "spec.template.spec.containers: Required value",
        ),
    ],
)
def test_deployments(obj: Json, complaint: str) -> None:
    assert complaints("deployments.apps", obj) == [complaint]


def test_a_selector_that_selects_everything_is_refused() -> None:
    assert complaints("deployments.apps", deployment(selector={})) == [
        "spec.selector: Invalid value: {}: empty selector is invalid for deployment"
    ]


def test_a_selector_cannot_change() -> None:
    new = deployment(selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]})
    assert complaints("deployments.apps", new, deployment()) == [
        'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Exists"}]}: '
        "field is immutable"
    ]


def test_missing_parts_of_workloads() -> None:
    bare = with_defaults("deployments.apps", {"metadata": {"name": "web"}})
    assert complaints("deployments.apps", bare) == [
        "spec.selector: Required value",
        "spec.template: Required value",
    ]
    replicas = {"selector": {"matchLabels": {"a": "b"}}}
    bare = with_defaults("replicasets.apps", {"metadata": {"name": "web"}, "spec": replicas})
    assert complaints("replicasets.apps", bare) == ["spec.template: Required value"]


@pytest.mark.parametrize(
    ("container", "complaint"),
    [
        (
            {"ports": [{"containerPort": 65536}]},
            "spec.containers[0].ports[0].containerPort: Invalid value: 65536: must be between 1 "
            "and 65535, inclusive",
        ),
        (
            {"ports": [{"containerPort": 1, "protocol": "tcp"}]},
            'spec.containers[0].ports[0].protocol: Unsupported value: "tcp": supported values: '
            '"TCP", "UDP", "SCTP"',
        ),
        (
            {
                "ports": [
                    {"containerPort": 1, "name": "grpc"},
                    {"containerPort": 2, "name": "grpc"},
                ]
            },
            'spec.containers[0].ports[1].name: Duplicate value: "grpc"',
        ),
        ({"image": ""}, "spec.containers[0].image: Required value"),
        (
            {"imagePullPolicy": "Sometimes"},
            'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: '
            '"Always", "IfNotPresent", "Never"',
        ),
        (
            {"env": [{"name": "A=B"}]},
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": may not contain '='",
        ),
        (
            {"env": [{"name": "A", "value": "1", "valueFrom": {}}]},
            'spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when '
            "`value` is not empty",
        ),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
        (
            {"livenessProbe": {}},
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            {"livenessProbe": {"grpc": {"port": 1}, "exec": {}}},
            "spec.containers[0].livenessProbe.grpc: Forbidden: may not specify more than 1 handler "
            "type",
        ),
        (
            {"livenessProbe": {"grpc": {"port": 0}}},
            "spec.containers[0].livenessProbe.grpc.port: Invalid value: 0: must be between 1 and "
            "65535, inclusive",
        ),
        (
            {"livenessProbe": {"grpc": {"port": 1}, "successThreshold": 2}},
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            {"readinessProbe": {"grpc": {"port": 1}, "periodSeconds": -1}},
            "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater "
            "than or equal to 0",
        ),
        (
            {"lifecycle": {"preStop": {}}},
            "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type",
        ),
    ],
)
def test_containers(container: Json, complaint: str) -> None:
    assert complaints("pods", pod(container)) == [complaint]


def test_pods() -> None:
    twice = pod(
        initContainers=[{"name": "c", "image": "x"}],
        volumes=[{"name": "v"}, {"name": "v", "secret": {}, "emptyDir": {}}],
        restartPolicy="Sometimes",
        terminationGracePeriodSeconds=-1,
    )
    assert complaints("pods", twice) == [
        'spec.volumes[1].name: Duplicate value: "v"',
        "spec.volumes[1]: Forbidden: may not specify more than 1 volume type",
        'spec.containers[0].name: Duplicate value: "c"',
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", '
        '"OnFailure", "Never"',
        "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
    ]


def test_paths_of_mounts_are_unique() -> None:
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]
    assert complaints("pods", pod({"volumeMounts": mounts}, volumes=[{"name": "v"}])) == [
        'spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/v": must be unique'
    ]


def test_a_pod_that_exists_can_change_its_images_only() -> None:
    assert complaints("pods", pod({"image": "web:2"}), pod()) == []
    assert complaints("pods", pod({"command": ["x"]}), pod()) == [
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
        "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be "
        "set to 1 if it was previously negative)"
    ]


@pytest.mark.parametrize(
    ("obj", "complaint"),
    [
        (service(), "spec.ports: Required value"),
        (
            service({"port": 0}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            service({"port": 1, "targetPort": "Not_A_Name"}),
            'spec.ports[0].targetPort: Invalid value: "Not_A_Name": must contain only '
            "alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            service({"port": 1, "name": "a"}, {"port": 2}),
            "spec.ports[1].name: Required value",
        ),
        (
            service({"port": 1, "name": "a"}, {"port": 1, "name": "b"}),
            'spec.ports[1]: Duplicate value: [1,"TCP"]',
        ),
        (
            service({"port": 1}, type="Headless"),
            'spec.type: Unsupported value: "Headless": supported values: "ClusterIP", '
            '"ExternalName", "LoadBalancer", "NodePort"',
        ),
        (service(type="ExternalName"), "spec.externalName: Required value"),
    ],
)
def test_services(obj: Json, complaint: str) -> None:
    found = complaints("services", obj)
    assert complaint in found
    assert len(found) <= 2  # a bad port is its own target's too


def test_an_address_stays() -> None:
    old = service({"port": 1}, clusterIP="127.9.128.1")
    assert complaints("services", service({"port": 1}, clusterIP="127.9.128.2"), old) == [
        'spec.clusterIP: Invalid value: "127.9.128.2": may not change once set'
    ]


def test_ingresses() -> None:
    assert complaints("ingresses.networking.k8s.io", ingress()) == [
        "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"
    ]
    paths = [
        {"path": "x", "pathType": "Near", "backend": {}},
        {"pathType": "ImplementationSpecific", "backend": {"service": {"name": "s", "port": {}}}},
        {
            "path": "/",
            "pathType": "Exact",
            "backend": {"service": {"name": "s", "port": {"number": 70000}}},
        },
    ]
    rules = [{"host": "*.Example", "http": {"paths": paths}}]
    host, *others = complaints("ingresses.networking.k8s.io", ingress(rules=rules))
    where = "spec.rules[0].http.paths"
    assert host.startswith('spec.rules[0].host: Invalid value: "*.Example": a lowercase RFC 1123')
    assert others == [
        f'{where}[0].pathType: Unsupported value: "Near": supported values: "Exact", '
        '"ImplementationSpecific", "Prefix"',
        f'{where}[0].path: Invalid value: "x": must be an absolute path',
        f'{where}[0].backend: Invalid value: "": exactly one of service and resource must be given',
        f"{where}[1].backend.service.port: Required value: either name or number",
        f"{where}[2].backend.service.port.number: Invalid value: 70000: must be between 1 and "
        "65535, inclusive",
    ]


def test_configuration_and_secrets() -> None:
    frozen = {"metadata": {"name": "a"}, "immutable": True, "data": {"a": "1"}}
    assert complaints("configmaps", {"metadata": {"name": "a"}, "data": {"a b": "1"}}, frozen) == [
        'data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric '
        "characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used "
        "for validation is '[-._a-zA-Z0-9]+')",
        "data: Forbidden: field is immutable when `immutable` is set",
        "immutable: Forbidden: field is immutable when `immutable` is set",
    ]
    tls = {"metadata": {"name": "a"}, "type": "kubernetes.io/tls", "data": {"tls.crt": ""}}
    opaque = {"metadata": {"name": "a"}, "type": "Opaque"}
    assert complaints("secrets", tls, opaque) == [
        'type: Invalid value: "kubernetes.io/tls": field is immutable',
        "data[tls.key]: Required value",
    ]


def test_what_else_cannot_change() -> None:
    kind = "endpointslices.discovery.k8s.io"
    old = {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []}
    assert complaints(kind, {**old, "addressType": "IPv5"}, old) == [
        'addressType: Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6"',
        'addressType: Invalid value: "IPv5": field is immutable',
    ]
    kind = "rolebindings.rbac.authorization.k8s.io"
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    old = {"metadata": {"name": "a"}, "roleRef": ref}
    assert complaints(kind, {**old, "roleRef": {**ref, "name": "s"}}, old) == [
        'roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"s"}'
        ": cannot change roleRef"
    ]
