"""What runs leave in somebody else's namespace is deleted; what others have there is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_grpclb.clusters.api.kube import KubeApi, Resource
from pytest_grpclb.clusters.namespaces import ABANDONED_AFTER
from pytest_grpclb.errors import ApiError, ServiceError
from pytest_grpclb.lending import delete_abandoned, lent

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG_MAPS = Resource("v1", "configmaps", namespaced=True)
MINE = {"app.kubernetes.io/managed-by": "pytest-grpclb", "pytest-grpclb/run": "abc-main"}
# Tests are collected at the beginning of a run, and this one's may be hours later.
LATER = datetime.now(UTC) + ABANDONED_AFTER + timedelta(days=1)


def config(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def names(api: KubeApi, namespace: str) -> set[str]:
    return {each["metadata"]["name"] for each in api.list(CONFIG_MAPS, namespace)}


@pytest.fixture
def left(api: KubeApi, namespace: str) -> set[str]:
    """Objects as a run leaves them that died, and such as are somebody else's."""
    theirs = {
        "theirs": {},
        "helm": {"app.kubernetes.io/managed-by": "Helm", "pytest-grpclb/run": "abc-main"},
        "no-run": {"app.kubernetes.io/managed-by": "pytest-grpclb"},
    }
    api.apply([config(name, **labels) for name, labels in theirs.items()], namespace=namespace)
    api.apply([config("mine", **MINE)], namespace=namespace)
    return {*theirs, "mine"}


def test_what_a_run_has_left_goes_after_the_age_limit_and_nothing_else(
    api: KubeApi, namespace: str, left: set[str]
) -> None:
    told: list[str] = []
    before = names(api, namespace)
    assert left <= before
    delete_abandoned(api, namespace, tell=told.append)
    assert (names(api, namespace), told) == (before, [])
    delete_abandoned(api, namespace, tell=told.append, now=LATER)
    assert names(api, namespace) == before - {"mine"}
    assert told == [
        f"grpclb: deleted ConfigMap 'mine' of a run that died, in the namespace {namespace!r}"
    ]


def test_other_namespaces_are_not_looked_into(api: KubeApi, namespace: str, left: set[str]) -> None:
    told: list[str] = []
    delete_abandoned(api, "default", tell=told.append, now=LATER)
    assert left <= names(api, namespace)
    assert told == []


@pytest.mark.parametrize("status", [403, 404])
def test_kinds_that_may_not_be_listed_or_are_not_there_are_passed_over(
    api: KubeApi,
    namespace: str,
    left: set[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    listed: Callable[..., Any] = api.list

    def without_services(where: Resource, *more: Any, **selector: Any) -> Any:
        if where.plural == "services":
            raise ApiError("GET", where.path(), status=status)
        return listed(where, *more, **selector)

    monkeypatch.setattr(api, "list", without_services)
    delete_abandoned(api, namespace, tell=lambda _line: None, now=LATER)
    assert names(api, namespace) & left == left - {"mine"}


def test_what_this_user_may_not_delete_is_told_and_passed_over(
    api: KubeApi, namespace: str, left: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(where: Resource, *_: Any, **__: Any) -> None:
        raise ApiError("DELETE", where.path(), status=403)

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(api, "delete", refused)
        delete_abandoned(api, namespace, tell=told.append, now=LATER)
    assert told == [
        "grpclb: this user may not delete ConfigMap 'mine' of a run that died, in the namespace "
        f"{namespace!r}"
    ]
    assert left <= names(api, namespace)


def test_an_object_of_that_name_is_not_taken_over(
    api: KubeApi, namespace: str, left: set[str]
) -> None:
    with (
        pytest.raises(ServiceError) as caught,
        lent(api, [config("new"), config("theirs")], namespace=namespace, run="abc-main"),
    ):
        raise AssertionError("unreachable: it is refused")
    assert str(caught.value) == (
        f"--grpclb-service: the strategy needs a ConfigMap 'theirs' in the namespace {namespace!r},"
        " which has one already; if no other run uses it, delete it"
    )
    assert names(api, namespace) & {*left, "new"} == left
