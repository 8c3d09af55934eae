"""Server-side apply: who owns which field, what is taken away, what is a conflict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.api import ownership
from pytest_grpclb.clusters.embedded.api.shapes import shape_of
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, ConflictError

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
KIND = "deployments.apps"
Json = dict[str, Any]


def deployment(
    *, labels: dict[str, str] | None = None, replicas: int | None = None, env: Json | None = None
) -> Json:
    container: Json = {"name": "web", "image": "web:1"}
    if env:
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
    spec: Json = {"template": {"spec": {"containers": [container]}}}
    if replicas is not None:
        spec["replicas"] = replicas
    metadata: Json = {"name": "web", "namespace": "default"}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def apply(live: Json | None, applied: Json, manager: str = "helm", *, force: bool = False) -> Json:
    return ownership.apply(
        live, applied, shape_of(KIND), manager=manager, force=force, now=NOW, kind=KIND
    )


def update(live: Json, manager: str = "kubectl", **spec: Any) -> Json:
    new = {**live, "spec": {**live["spec"], **spec}}
    return ownership.note_update(live, new, shape_of(KIND), manager=manager, now=NOW)


def owned(obj: Json, manager: str) -> Any:
    entries = [e for e in obj["metadata"]["managedFields"] if e["manager"] == manager]
    return entries[0]["fieldsV1"] if entries else None


def container(obj: Json) -> Json:
    found: Json = obj["spec"]["template"]["spec"]["containers"][0]
    return found


def test_what_is_applied_is_owned_in_the_form_of_kubernetes() -> None:
    made = apply(None, deployment(labels={"app": "web"}, replicas=3, env={"A": "1"}))
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "helm",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": "2026-01-31T12:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:template": {
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"web"}': {
                                    ".": {},
                                    "f:name": {},
                                    "f:image": {},
                                    "f:env": {
                                        'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}
                                    },
                                }
                            }
                        }
                    },
                },
            },
        }
    ]


def test_what_is_no_longer_applied_is_taken_away() -> None:
    made = apply(None, deployment(labels={"a": "1", "b": "2"}, env={"A": "1", "B": "2"}))
    changed = apply(made, deployment(labels={"a": "1"}, env={"B": "2"}))
    assert changed["metadata"]["labels"] == {"a": "1"}
    assert container(changed)["env"] == [{"name": "B", "value": "2"}]
    bare = apply(changed, deployment())
    assert "labels" not in bare["metadata"]
    assert "env" not in container(bare)


def test_what_others_set_stays() -> None:
    made = apply(None, deployment(env={"A": "1"}))
    shared = apply(made, deployment(env={"A": "1", "B": "2"}), "other")
    left = apply(shared, deployment())
    assert container(left)["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    gone = apply(left, deployment(), "other")
    assert "env" not in container(gone)


def test_what_others_set_in_an_item_goes_with_the_item() -> None:
    made = apply(None, deployment(env={"A": "1"}))
    template = {"spec": {"containers": [{**container(made), "workingDir": "/tmp"}]}}
    changed = update(made, template=template)
    assert owned(changed, "kubectl") is not None
    bare = {"apiVersion": "apps/v1", "metadata": {"name": "web"}, "spec": {"paused": True}}
    left = apply(changed, bare)
    assert left["spec"] == {"paused": True}
    assert owned(left, "kubectl") is None


def test_an_item_that_is_applied_keeps_the_place_that_it_has_among_others() -> None:
    # structured-merge-diff: what only the live list has stays before what stood behind it
    made = apply(None, deployment(env={"A": "1", "B": "1", "C": "1"}), "other")
    both = apply(made, deployment(env={"D": "1", "C": "1", "A": "1"}))
    assert [entry["name"] for entry in container(both)["env"]] == ["B", "D", "C", "A"]


def test_what_the_cluster_filled_in_stays() -> None:
    made = apply(None, deployment())
    filled = {**made, "spec": {**made["spec"], "revisionHistoryLimit": 10}}
    assert apply(filled, deployment())["spec"]["revisionHistoryLimit"] == 10


def test_a_field_that_another_changed_is_a_conflict_unless_forced() -> None:
    made = apply(None, deployment(replicas=3))
    scaled = update(made, replicas=6)
    assert owned(scaled, "kubectl") == {"f:spec": {"f:replicas": {}}}
    with pytest.raises(ConflictError) as caught:
        apply(scaled, deployment(replicas=3))
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: '
        ".spec.replicas",
        "reason": "Conflict",
        "code": 409,
        "details": {
            "name": "web",
            "group": "apps",
            "kind": "deployments",
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": 'conflict with "kubectl" using apps/v1',
                    "field": ".spec.replicas",
                }
            ],
        },
    }
    forced = apply(scaled, deployment(replicas=3), force=True)
    assert forced["spec"]["replicas"] == 3
    assert owned(forced, "kubectl") is None


def test_conflicts_in_lists_name_the_item() -> None:
    made = apply(None, deployment(env={"A": "1", "B": "1"}))
    with pytest.raises(ConflictError) as caught:
        apply(made, deployment(env={"A": "2", "B": "2"}), "other")
    field = '.spec.template.spec.containers[name="web"].env'
    assert str(caught.value) == (
        f'Apply failed with 2 conflicts: conflict with "helm" using apps/v1: {field}[name="A"]'
        f'.value; conflict with "helm" using apps/v1: {field}[name="B"].value'
    )


def test_a_field_handed_over_is_left_to_its_new_owner() -> None:
    # Kubernetes documentation, "Server-Side Apply", "Transferring ownership"
    made = apply(None, deployment(replicas=3))
    scaled = update(made, replicas=6)
    assert apply(scaled, deployment())["spec"]["replicas"] == 6


def test_applying_the_same_value_shares_the_field() -> None:
    made = apply(None, deployment(replicas=3))
    shared = apply(made, deployment(replicas=3), "other")
    assert owned(shared, "other") == owned(made, "helm")
    assert apply(shared, deployment())["spec"]["replicas"] == 3


def test_applying_nothing_new_changes_nothing() -> None:
    made = apply(None, deployment(labels={"a": "1"}, replicas=3, env={"A": "1"}))
    later = ownership.apply(
        made,
        deployment(labels={"a": "1"}, replicas=3, env={"A": "1"}),
        shape_of(KIND),
        manager="helm",
        force=False,
        now=NOW.replace(hour=13),
        kind=KIND,
    )
    assert later == made


def test_a_selector_is_one_field() -> None:
    def service(**selector: str) -> Json:
        metadata = {"name": "s", "namespace": "default"}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": selector},
        }

    shape = shape_of("services")
    made = ownership.apply(
        None, service(a="1", b="2"), shape, manager="m", force=False, now=NOW, kind="services"
    )
    assert owned(made, "m") == {"f:spec": {"f:selector": {}}}
    changed = ownership.apply(
        made, service(a="1"), shape, manager="m", force=False, now=NOW, kind="services"
    )
    assert changed["spec"]["selector"] == {"a": "1"}


@pytest.mark.parametrize(
    ("applied", "message"),
    [
        (
            {**deployment(), "metadata": {"name": "web", "managedFields": [{}]}},
            "metadata.managedFields must be nil",
        ),
        (
            {"apiVersion": "apps/v1", "spec": {"template": {"spec": {"containers": [{}]}}}},
            "the list item {} lacks 'name', by which its list is merged",
        ),
    ],
)
def test_what_cannot_be_applied(applied: Json, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        apply(None, applied)
    assert str(caught.value) == message


APPLIED = st.builds(
    deployment,
    labels=st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
    replicas=st.none() | st.integers(0, 2),
    env=st.dictionaries(st.sampled_from("AB"), st.sampled_from("12")),
)


@given(st.lists(st.tuples(st.sampled_from(["helm", "other"]), APPLIED), min_size=1, max_size=6))
def test_what_each_applied_last_holds_unless_another_forced_it(
    steps: list[tuple[str, Json]],
) -> None:
    live: Json | None = None
    for manager, applied in steps:
        live = apply(live, applied, manager, force=True)
        # All that was just applied is there, as it was applied.
        again = apply(live, applied, manager)
        assert again == live
    assert live is not None
    # Without managers nothing is left of what they set.
    for manager in ("helm", "other"):
        live = apply(live, {"apiVersion": "apps/v1", "metadata": {"name": "web"}}, manager)
    assert live["metadata"].get("labels") is None
    assert live.get("spec") is None
