"""Who may do what: the decisions, and the words of refusals, are those of Kubernetes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pytest_grpclb.clusters.embedded.api.accounts import Accounts
from pytest_grpclb.clusters.embedded.api.api import Answer, Api, Request, Response
from pytest_grpclb.clusters.embedded.api.rbac import (
    ADMINISTRATOR,
    DEFAULTS,
    Act,
    User,
    authorize,
    service_account_user,
)
from pytest_grpclb.clusters.embedded.store.status import ForbiddenError, NotFoundError
from pytest_grpclb.clusters.embedded.store.store import Store

RBAC = "rbac.authorization.k8s.io"
SLICES = {"group": "discovery.k8s.io", "resource": "endpointslices"}
BALANCER = service_account_user("team", "balancer")
SUBJECT = {"kind": "ServiceAccount", "name": "balancer", "namespace": "team"}


class Cluster:
    """A store with roles, and the API over it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.store = Store(now=lambda: self.time)
        for kind, obj in DEFAULTS:
            self.store.create(kind, obj)
        for name in ("team", "other"):
            self.store.create("namespaces", {"metadata": {"name": name}})
        self.account = self.add_account("balancer")
        self.accounts = Accounts(self.store, authority_pem=b"PEM")
        self.api = Api(self.store, token="of-the-admin", accounts=self.accounts, log_reader=no_logs)

    def add_account(self, name: str, **fields: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "team"}
        return self.store.create("serviceaccounts", {"metadata": metadata, **fields})

    def role(self, *verbs: str, kind: str = "Role", **fields: Any) -> None:
        rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]}
        rule |= {"verbs": list(verbs), **fields}
        metadata = {"name": "watcher"} | ({"namespace": "team"} if kind == "Role" else {})
        self.store.create(f"{kind.lower()}s.{RBAC}", {"metadata": metadata, "rules": [rule]})

    def bind(
        self,
        kind: str = "RoleBinding",
        *,
        role: str = "Role",
        subject: dict[str, str] = SUBJECT,
    ) -> None:
        metadata = {"name": "watcher"} | ({"namespace": "team"} if kind == "RoleBinding" else {})
        self.store.create(
            f"{kind.lower()}s.{RBAC}",
            {
                "metadata": metadata,
                "roleRef": {"apiGroup": RBAC, "kind": role, "name": "watcher"},
                "subjects": [subject],
            },
        )

    def allows(self, verb: str, namespace: str = "team", *, user: User = BALANCER) -> bool:
        try:
            authorize(self.store, user, Act(verb=verb, namespace=namespace, **SLICES))
        except ForbiddenError:
            return False
        return True

    def ask(self, method: str, path: str, *, token: str = "", **fields: Any) -> Answer:
        token = token or self.accounts.token(self.account)
        path, _, query = path.partition("?")
        headers = {"authorization": f"Bearer {token}"} | fields.pop("headers", {})
        return self.api.handle(
            Request(method=method, path=path, query=query, headers=headers, **fields)
        )

    def refusal(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        answer = self.ask(method, path, **fields)
        assert isinstance(answer, Response)
        status: dict[str, Any] = json.loads(answer.body)
        assert answer.status == status["code"]
        return status


def no_logs(*_: Any) -> Any:
    raise NotImplementedError


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_an_account_without_a_role_may_do_nothing(cluster: Cluster) -> None:
    assert not cluster.allows("list")
    assert cluster.allows("list", user=ADMINISTRATOR)


def test_a_role_allows_its_verbs_in_its_namespace(cluster: Cluster) -> None:
    cluster.role("list", "watch")
    cluster.bind()
    assert cluster.allows("list")
    assert cluster.allows("watch")
    assert not cluster.allows("get")
    assert not cluster.allows("delete")
    assert not cluster.allows("list", "other")
    assert not cluster.allows("list", "")


def test_a_role_binds_nobody_else(cluster: Cluster) -> None:
    cluster.role("*")
    cluster.bind()
    assert not cluster.allows("list", user=service_account_user("other", "balancer"))
    assert not cluster.allows("list", user=service_account_user("team", "default"))


def test_a_cluster_role_bound_in_a_namespace_holds_there(cluster: Cluster) -> None:
    cluster.role("list", kind="ClusterRole")
    cluster.bind(role="ClusterRole")
    assert cluster.allows("list")
    assert not cluster.allows("list", "other")


def test_a_cluster_role_bound_to_the_cluster_holds_everywhere(cluster: Cluster) -> None:
    cluster.role("list", kind="ClusterRole")
    cluster.bind("ClusterRoleBinding", role="ClusterRole")
    assert cluster.allows("list")
    assert cluster.allows("list", "other")
    assert cluster.allows("list", "")


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "Group", "name": "system:serviceaccounts"},
        {"kind": "Group", "name": "system:serviceaccounts:team"},
        {"kind": "Group", "name": "system:authenticated"},
        {"kind": "User", "name": "system:serviceaccount:team:balancer"},
        {"kind": "ServiceAccount", "name": "balancer"},
    ],
)
def test_an_account_is_also_a_user_with_groups(cluster: Cluster, subject: dict[str, str]) -> None:
    cluster.role("list")
    cluster.bind(subject=subject)
    assert cluster.allows("list")


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({"resources": ["pods/log"]}, ["pods/log"]),
        ({"resources": ["*/log"]}, ["pods/log"]),
        ({"resources": ["pods"]}, ["pods"]),
        ({"resources": ["*"]}, ["pods", "pods/log"]),
        ({"resources": ["pods"], "apiGroups": ["apps"]}, []),
        ({"resources": ["pods"], "apiGroups": ["*"]}, ["pods"]),
        ({"resources": ["pods"], "resourceNames": ["one"]}, ["pods"]),
        ({"resources": ["pods"], "resourceNames": ["two"]}, []),
    ],
)
def test_rules_match_as_in_kubernetes(
    cluster: Cluster, rule: dict[str, Any], allowed: list[str]
) -> None:
    cluster.role("get", **{"apiGroups": [""], **rule})
    cluster.bind()
    found = []
    for resource in ("pods", "pods/log"):
        plural, _, sub = resource.partition("/")
        act = Act(verb="get", resource=plural, subresource=sub, namespace="team", name="one")
        try:
            authorize(cluster.store, BALANCER, act)
        except ForbiddenError:
            continue
        found.append(resource)
    assert found == allowed


def test_the_refusal_is_kubernetes_own(cluster: Cluster) -> None:
    path = "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices"
    assert cluster.refusal("GET", path) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'endpointslices.discovery.k8s.io is forbidden: User "system:serviceaccount:team:'
        'balancer" cannot list resource "endpointslices" in API group "discovery.k8s.io" in the '
        'namespace "team"',
        "reason": "Forbidden",
        "details": {"group": "discovery.k8s.io", "kind": "endpointslices"},
        "code": 403,
    }


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        (
            "GET",
            "/api/v1/namespaces/team/pods/one/log",
            'pods "one" is forbidden: User "system:serviceaccount:team:balancer" cannot get '
            'resource "pods/log" in API group "" in the namespace "team"',
        ),
        (
            "GET",
            "/api/v1/nodes",
            'nodes is forbidden: User "system:serviceaccount:team:balancer" cannot list resource '
            '"nodes" in API group "" at the cluster scope',
        ),
        (
            "GET",
            "/api/v1/pods?watch=1",
            'pods is forbidden: User "system:serviceaccount:team:balancer" cannot watch resource '
            '"pods" in API group "" at the cluster scope',
        ),
        (
            "DELETE",
            "/api/v1/namespaces/team/pods",
            'pods is forbidden: User "system:serviceaccount:team:balancer" cannot deletecollection '
            'resource "pods" in API group "" in the namespace "team"',
        ),
        (
            "DELETE",
            "/api/v1/namespaces/team",
            'namespaces "team" is forbidden: User "system:serviceaccount:team:balancer" cannot '
            'delete resource "namespaces" in API group "" in the namespace "team"',
        ),
        (
            "POST",
            "/api/v1/namespaces/team/pods/one/eviction",
            'pods "one" is forbidden: User "system:serviceaccount:team:balancer" cannot create '
            'resource "pods/eviction" in API group "" in the namespace "team"',
        ),
        (
            "PUT",
            "/api/v1/namespaces/team/configmaps/one",
            'configmaps "one" is forbidden: User "system:serviceaccount:team:balancer" cannot '
            'update resource "configmaps" in API group "" in the namespace "team"',
        ),
    ],
)
def test_every_request_has_its_verb(cluster: Cluster, method: str, path: str, told: str) -> None:
    status = cluster.refusal(method, path)
    assert (status["code"], status["message"]) == (403, told)


def test_a_binding_to_a_role_that_is_not_there_is_told(cluster: Cluster) -> None:
    cluster.bind()
    status = cluster.refusal("GET", "/api/v1/namespaces/team/pods")
    assert status["message"] == (
        'pods is forbidden: User "system:serviceaccount:team:balancer" cannot list resource "pods" '
        'in API group "" in the namespace "team": RBAC: role.rbac.authorization.k8s.io "watcher" '
        "not found"
    )


def test_applying_what_is_not_there_takes_the_right_to_create(cluster: Cluster) -> None:
    cluster.role("patch", apiGroups=[""], resources=["configmaps"])
    cluster.bind()
    path = "/api/v1/namespaces/team/configmaps/one?fieldManager=me"
    headers = {"content-type": "application/apply-patch+yaml"}
    body = b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}'
    assert cluster.refusal("PATCH", path, headers=headers, body=body)["message"] == (
        'configmaps "one" is forbidden: User "system:serviceaccount:team:balancer" cannot create '
        'resource "configmaps" in API group "" in the namespace "team"'
    )
    admin = cluster.ask("PATCH", path, headers=headers, body=body, token="of-the-admin")
    assert admin.status == 201
    assert cluster.ask("PATCH", path, headers=headers, body=body).status == 200


def test_a_watch_of_one_name_may_be_allowed_by_name(cluster: Cluster) -> None:
    cluster.role("watch", resourceNames=["one"])
    cluster.bind()
    path = "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices?watch=1"
    assert cluster.ask("GET", f"{path}&fieldSelector=metadata.name%3Done").status == 200
    assert cluster.ask("GET", f"{path}&fieldSelector=metadata.name%3Dtwo").status == 403
    assert cluster.ask("GET", f"{path}&fieldSelector=metadata.name!%3Done").status == 403
    assert cluster.ask("GET", path).status == 403


@pytest.mark.parametrize("path", ["/api", "/apis/apps/v1", "/version", "/readyz", "/openapi/v3"])
def test_everybody_with_a_token_may_ask_what_there_is(cluster: Cluster, path: str) -> None:
    assert cluster.ask("GET", path).status == 200


def test_without_the_role_for_discovery_nobody_may(cluster: Cluster) -> None:
    cluster.store.delete(f"clusterrolebindings.{RBAC}", "system:discovery")
    assert cluster.refusal("GET", "/api")["message"] == (
        'forbidden: User "system:serviceaccount:team:balancer" cannot get path "/api"'
    )
    assert cluster.ask("GET", "/api", token="of-the-admin").status == 200


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer no", "Basic of-the-admin"])
def test_who_has_no_token_is_not_even_refused(cluster: Cluster, authorization: str) -> None:
    status = cluster.refusal("GET", "/api", headers={"authorization": authorization})
    assert (status["code"], status["reason"]) == (401, "Unauthorized")


def test_the_token_of_an_account_ends_with_it(cluster: Cluster) -> None:
    old = cluster.accounts.token(cluster.account)
    assert cluster.accounts.token(cluster.account) == old
    assert cluster.accounts.user(old) == BALANCER
    cluster.store.delete("serviceaccounts", "balancer", "team")
    assert cluster.accounts.user(old) is None
    again = cluster.add_account("balancer")
    assert cluster.accounts.user(old) is None
    assert cluster.accounts.user(cluster.accounts.token(again)) == BALANCER


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "team"}, "spec": spec}


def test_a_pod_gets_the_files_of_its_own_account_only(cluster: Cluster) -> None:
    files = cluster.accounts.files(pod(serviceAccountName="balancer"))
    assert files == {
        "token": cluster.accounts.token(cluster.account).encode(),
        "ca.crt": b"PEM",
        "namespace": b"team",
    }
    cluster.add_account("default")
    assert cluster.accounts.files(pod())["token"] != files["token"]


@pytest.mark.parametrize(
    ("of_pod", "of_account", "given"),
    [
        (None, None, True),
        (None, True, True),
        (None, False, False),
        (True, False, True),
        (False, True, False),
        (False, None, False),
    ],
)
def test_the_pod_has_the_last_word_on_whether_it_gets_them(
    cluster: Cluster, of_pod: bool | None, of_account: bool | None, given: bool
) -> None:
    field = "automountServiceAccountToken"
    cluster.add_account("shy", **({} if of_account is None else {field: of_account}))
    spec = {"serviceAccountName": "shy"} | ({} if of_pod is None else {field: of_pod})
    assert bool(cluster.accounts.files(pod(**spec))) is given


def test_an_account_that_is_not_there_gives_nothing(cluster: Cluster) -> None:
    with pytest.raises(NotFoundError, match=r'^serviceaccounts "gone" not found$'):
        cluster.accounts.files(pod(serviceAccountName="gone"))


# --- tokens that are asked for


TOKEN_PATH = "/api/v1/namespaces/team/serviceaccounts/balancer/token"


def test_a_token_can_be_asked_for(cluster: Cluster) -> None:
    body = b'{"kind": "TokenRequest", "spec": {"expirationSeconds": 600}}'
    answer = cluster.ask("POST", TOKEN_PATH, token="of-the-admin", body=body)
    assert isinstance(answer, Response)
    assert answer.status == 201
    told = json.loads(answer.body)
    token = told["status"].pop("token")
    assert told == {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": "balancer", "namespace": "team"},
        "spec": {"audiences": [], "expirationSeconds": 600},
        "status": {"expirationTimestamp": "2026-01-01T00:10:00Z"},
    }
    assert token != cluster.accounts.token(cluster.account)
    assert cluster.accounts.user(token) == BALANCER
    cluster.time += timedelta(seconds=599)
    assert cluster.accounts.user(token) == BALANCER
    cluster.time += timedelta(seconds=1)
    assert cluster.accounts.user(token) is None
    assert cluster.accounts.user(cluster.accounts.token(cluster.account)) == BALANCER


def test_asking_for_a_token_takes_the_right_to(cluster: Cluster) -> None:
    assert cluster.refusal("POST", TOKEN_PATH, body=b"{}")["message"] == (
        'serviceaccounts "balancer" is forbidden: User "system:serviceaccount:team:balancer" '
        'cannot create resource "serviceaccounts/token" in API group "" in the namespace "team"'
    )


@pytest.mark.parametrize(
    ("seconds", "limit"), [(599, "less than 10 minutes"), (2**32 + 1, "too long")]
)
def test_a_token_holds_for_a_sensible_time(cluster: Cluster, seconds: int, limit: str) -> None:
    body = json.dumps({"spec": {"expirationSeconds": seconds}}).encode()
    status = cluster.refusal("POST", TOKEN_PATH, token="of-the-admin", body=body)
    assert (status["code"], status["message"]) == (
        422,
        'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: '
        f"{seconds}: may not be {limit}",
    )
