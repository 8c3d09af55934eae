"""Who may do what: role-based access control, as Kubernetes decides it and words its refusals.

Not here: aggregated cluster roles, and the rule that nobody grants more than he may do: whoever
may create pods runs processes as this machine's user, and needs no role to do worse.

:source: Kubernetes documentation, "Using RBAC Authorization"; ``plugin/pkg/auth/authorizer/rbac``;
    apiserver, ``pkg/endpoints/handlers/responsewriters/errors.go``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.store.status import ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_grpclb.clusters.embedded.store.store import Object, Store

__all__ = ["ADMINISTRATOR", "DEFAULTS", "Act", "User", "authorize", "service_account_user"]

_GROUP = "rbac.authorization.k8s.io"
_MASTERS = "system:masters"
_AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a token stands for."""

    name: str
    groups: tuple[str, ...]


ADMINISTRATOR = User(name="kubernetes-admin", groups=(_MASTERS, _AUTHENTICATED))
"""Whoever has the kubeconfig: no role says what he may do, he may do everything."""


def service_account_user(namespace: str, name: str) -> User:
    """Return the user that a service account is.

    :source: Kubernetes documentation, "Managing Service Accounts"
    """
    return User(
        name=f"system:serviceaccount:{namespace}:{name}",
        groups=("system:serviceaccounts", f"system:serviceaccounts:{namespace}", _AUTHENTICATED),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody wants to do: with an object, or with a path of the API that is none."""

    verb: str
    path: str = ""
    """Empty: it is about an object, or a collection."""
    group: str = ""
    resource: str = ""
    """In the plural."""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def full_resource(self) -> str:
        """The resource as rules name it, ``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def authorize(store: Store, user: User, act: Act) -> None:
    """Return if *user* may do it.

    :raises ForbiddenError: if no role that is bound to him says so
    """
    if _MASTERS in user.groups:
        return
    missing: list[str] = []
    for rule in _rules(store, user, act.namespace, missing):
        if _allows(rule, act):
            return
    raise _forbidden(user, act, missing)


def _rules(
    store: Store, user: User, namespace: str, missing: list[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield every rule that holds for a user in a namespace; empty: for the cluster as a whole.

    :param missing: gets what is wrong with the bindings that lead to no role
    """
    bindings = store.list(f"clusterrolebindings.{_GROUP}")
    if namespace:
        bindings = bindings + store.list(f"rolebindings.{_GROUP}", namespace)
    for binding in bindings:
        subjects = binding.get("subjects") or ()
        if any(_is(subject, user, namespace) for subject in subjects):
            yield from _rules_of(store, binding, missing)


def _rules_of(store: Store, binding: Object, missing: list[str]) -> Sequence[Mapping[str, Any]]:
    reference = binding["roleRef"]
    where = binding["metadata"].get("namespace", "") if reference["kind"] == "Role" else ""
    plural = f"{reference['kind'].lower()}s.{_GROUP}"
    role = store.find(plural, reference["name"], where)
    if role is None:
        missing.append(f'{reference["kind"].lower()}.{_GROUP} "{reference["name"]}" not found')
        return ()
    return role.get("rules") or ()


def _is(subject: Mapping[str, str], user: User, namespace: str) -> bool:
    match subject["kind"]:
        case "User":
            return subject["name"] == user.name
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            home = subject.get("namespace") or namespace
            return service_account_user(home, subject["name"]).name == user.name
        case _:
            return False


def _allows(rule: Mapping[str, Any], act: Act) -> bool:
    if not _has(rule.get("verbs"), act.verb):
        return False
    if act.path:
        return any(_covers(pattern, act.path) for pattern in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames") or ()
    resources = rule.get("resources") or ()
    return (
        _has(rule.get("apiGroups"), act.group)
        and (
            _has(resources, act.full_resource)
            or bool(act.subresource and f"*/{act.subresource}" in resources)
        )
        and (not names or act.name in names)
    )


def _has(allowed: Iterable[str] | None, wanted: str) -> bool:
    return any(each in {"*", wanted} for each in allowed or ())


def _covers(pattern: str, path: str) -> bool:
    return pattern in {"*", path} or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _forbidden(user: User, act: Act, missing: Sequence[str]) -> ForbiddenError:
    why = ""
    if missing:
        told = dict.fromkeys(missing)
        why = ": RBAC: " + (missing[0] if len(told) == 1 else f"[{', '.join(told)}]")
    if act.path:
        return ForbiddenError(
            f'forbidden: User "{user.name}" cannot {act.verb} path "{act.path}"{why}'
        )
    kind = f"{act.resource}.{act.group}" if act.group else act.resource
    which = f'{kind} "{act.name}"' if act.name else kind
    where = f'in the namespace "{act.namespace}"' if act.namespace else "at the cluster scope"
    details = {"name": act.name, "group": act.group, "kind": act.resource}
    return ForbiddenError(
        f'{which} is forbidden: User "{user.name}" cannot {act.verb} resource '
        f'"{act.full_resource}" in API group "{act.group}" {where}{why}',
        details={key: value for key, value in details.items() if value},
    )


def _cluster_role(name: str, *rules: Object) -> tuple[str, Object]:
    return f"clusterroles.{_GROUP}", {"metadata": {"name": name}, "rules": list(rules)}


def _cluster_binding(name: str, group: str) -> tuple[str, Object]:
    reference = {"apiGroup": _GROUP, "kind": "ClusterRole", "name": name}
    subject = {"apiGroup": _GROUP, "kind": "Group", "name": group}
    return f"clusterrolebindings.{_GROUP}", {
        "metadata": {"name": name},
        "roleRef": reference,
        "subjects": [subject],
    }


_DISCOVERY = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]
_DISCOVERY += ["/healthz", "/livez", "/readyz", "/version", "/version/"]

DEFAULTS: Sequence[tuple[str, Object]] = (
    _cluster_role(
        "cluster-admin",
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ),
    _cluster_binding("cluster-admin", _MASTERS),
    _cluster_role("system:discovery", {"nonResourceURLs": _DISCOVERY, "verbs": ["get"]}),
    _cluster_binding("system:discovery", _AUTHENTICATED),
)
"""The roles, and who has them, that the embedded cluster begins with: by kind, what it begins with.

:source: Kubernetes documentation, "Using RBAC Authorization", default roles
"""
