"""Patches: worked examples from the Kubernetes documentation and the RFCs, and the directives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.api.patch import json_patch, merge_patch, strategic_merge_patch
from pytest_grpclb.clusters.embedded.api.shapes import PLAIN, shape_of
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, InvalidError

DEPLOYMENT = shape_of("deployments.apps")
POD = shape_of("pods")


def template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


def test_containers_merge_by_name_and_tolerations_are_replaced() -> None:
    # Kubernetes documentation, "Update API Objects in Place Using kubectl patch"
    live = template(
        containers=[{"name": "patch-demo-ctr", "image": "nginx"}],
        tolerations=[{"effect": "NoSchedule", "key": "dedicated", "value": "test-team"}],
    )
    two = template(containers=[{"name": "patch-demo-ctr-2", "image": "redis"}])
    merged = strategic_merge_patch(live, two, DEPLOYMENT)
    assert merged["spec"]["template"]["spec"]["containers"] == [
        {"name": "patch-demo-ctr-2", "image": "redis"},
        {"name": "patch-demo-ctr", "image": "nginx"},
    ]
    tolerations = [{"effect": "NoSchedule", "key": "disktype", "value": "ssd"}]
    merged = strategic_merge_patch(live, template(tolerations=tolerations), DEPLOYMENT)
    assert merged["spec"]["template"]["spec"]["tolerations"] == tolerations


def test_retained_keys_clear_the_others() -> None:
    # The same page: "Use strategic merge patch to update a Deployment using the retainKeys
    # strategy"
    live = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "30%"}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    merged = strategic_merge_patch(live, patch, DEPLOYMENT)
    assert merged == {"spec": {"strategy": {"type": "Recreate"}}}


def test_a_merge_patch_replaces_the_list_that_a_strategic_one_merges() -> None:
    # The same page: "Use a JSON merge patch to update a Deployment"
    live = template(containers=[{"name": "patch-demo-ctr", "image": "nginx"}], tolerations=[])
    three = template(containers=[{"name": "patch-demo-ctr-3", "image": "gcr.io/hello"}])
    assert merge_patch(live, three) == template(
        containers=[{"name": "patch-demo-ctr-3", "image": "gcr.io/hello"}], tolerations=[]
    )


def test_a_container_is_deleted_by_directive() -> None:
    # sig-api-machinery/strategic-merge-patch.md, "delete directive"
    live = {"spec": {"containers": [{"name": "nginx", "image": "n"}, {"name": "log-tailer"}]}}
    patch = {"spec": {"containers": [{"name": "nginx", "$patch": "delete"}]}}
    assert strategic_merge_patch(live, patch, POD) == {
        "spec": {"containers": [{"name": "log-tailer"}]}
    }


def test_a_list_or_mapping_is_replaced_by_directive() -> None:
    # The same document, "replace directive"
    live = {"spec": {"containers": [{"name": "nginx"}], "securityContext": {"runAsUser": 1}}}
    patch = {
        "spec": {
            "containers": [{"name": "log-tailer", "image": "l"}, {"$patch": "replace"}],
            "securityContext": {"$patch": "replace", "runAsGroup": 2},
        }
    }
    assert strategic_merge_patch(live, patch, POD) == {
        "spec": {
            "containers": [{"name": "log-tailer", "image": "l"}],
            "securityContext": {"runAsGroup": 2},
        }
    }


def test_a_mapping_is_emptied_by_directive() -> None:
    live = {"spec": {"securityContext": {"runAsUser": 1}}}
    patch = {"spec": {"securityContext": {"$patch": "delete"}}}
    assert strategic_merge_patch(live, patch, POD) == {"spec": {"securityContext": {}}}


def test_sets_grow_and_shrink_by_item() -> None:
    # The same document, "deleteFromPrimitiveList directive"
    live = {"metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"]}}
    merged = strategic_merge_patch(live, patch, POD)
    assert merged == {"metadata": {"finalizers": ["d", "a", "c"]}}


def test_a_client_orders_what_it_knows_and_the_rest_stays_where_it_stood() -> None:
    # The same document, "setElementOrder directive"
    def env(*names: str) -> dict[str, Any]:
        containers = [{"name": "c", "env": [{"name": name} for name in names]}]
        return {"spec": {"containers": containers}}

    patch = env("D")
    patch["spec"]["containers"][0]["$setElementOrder/env"] = [{"name": "D"}, {"name": "B"}]
    # A stood before B, the first of the known ones that was there; C stood after it.
    assert strategic_merge_patch(env("A", "B", "C"), patch, POD) == env("D", "A", "B", "C")


def test_null_takes_away() -> None:
    live = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"hostname": "x"}}
    patch = {"metadata": {"labels": {"a": None}}, "spec": None}
    assert strategic_merge_patch(live, patch, POD) == {"metadata": {"labels": {"b": "2"}}}
    assert merge_patch(live, patch) == {"metadata": {"labels": {"b": "2"}}}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ([], "a strategic merge patch is an object, not []"),
        (
            {"spec": {"$patch": "erase"}},
            "unknown directive $patch: 'erase'; use merge, replace or delete",
        ),
        (
            {"spec": {"containers": [{"image": "x"}]}},
            "map: {'image': 'x'} does not contain declared merge key: name",
        ),
    ],
)
def test_a_strategic_patch_that_cannot_be(patch: Any, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        strategic_merge_patch({"spec": {}}, patch, POD)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_as_in_the_rfc(original: Any, patch: Any, result: Any) -> None:
    assert merge_patch(original, patch) == result


@pytest.mark.parametrize(
    ("original", "operations", "result"),
    [  # RFC 6902, appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "q"}], {"foo": "bar", "baz": "q"}),
        (
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "q"}],
            {"foo": ["bar", "q", "baz"]},
        ),
        ({"baz": "q", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": 2}], {"a": 2}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"/": 9, "~1": 10}, [{"op": "replace", "path": "/~01", "value": 1}], {"/": 9, "~1": 1}),
        ({"/": 9}, [{"op": "replace", "path": "/~1", "value": 1}], {"/": 1}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": 1}], {"foo": ["bar", 1]}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": [1]}], [1]),
    ],
)
def test_json_patch_as_in_the_rfc(original: Any, operations: Any, result: Any) -> None:
    before = copy.deepcopy(original)
    assert json_patch(original, operations) == result
    assert original == before


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ({"op": "test", "path": "/a", "value": 2}, "the test failed, the value is 1"),
        ({"op": "remove", "path": "/b"}, "'b'"),
        ({"op": "replace", "path": "/l/7", "value": 2}, "list index out of range"),
        ({"op": "add", "path": "/l/7", "value": 2}, "the list has 1 items, the index is 7"),
        ({"op": "add", "path": "/l/x", "value": 2}, "'x' is not an index of a list"),
        ({"op": "add", "path": "a", "value": 2}, "the path 'a' does not begin with /"),
    ],
)
def test_a_json_patch_that_does_not_fit_changes_nothing(operation: Any, why: str) -> None:
    original = {"a": 1, "l": [0]}
    with pytest.raises(InvalidError) as caught:
        json_patch(original, [{"op": "add", "path": "/c", "value": 1}, operation])
    assert str(caught.value) == f"the JSON patch operation {operation!r} cannot be applied: {why}"
    assert original == {"a": 1, "l": [0]}


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ({}, "a JSON patch is a list of operations, not {}"),
        (
            [{"op": "erase", "path": "/a"}],
            "the JSON patch operation {'op': 'erase', 'path': '/a'} cannot be applied: 'erase'; "
            "operations are add, remove, replace, move, copy, test, each with op and path",
        ),
    ],
)
def test_a_json_patch_that_cannot_be_read(operations: Any, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        json_patch({"a": 1}, operations)
    assert str(caught.value) == message


JSON = st.recursive(
    st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner) | st.lists(inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON)


@given(OBJECTS, OBJECTS)
def test_where_no_list_has_keys_the_two_merge_patches_agree(
    original: dict[str, Any], patch: dict[str, Any]
) -> None:
    before = copy.deepcopy(original)
    assert strategic_merge_patch(original, patch, PLAIN) == merge_patch(original, patch)
    assert original == before


@given(st.permutations("abcd"), st.permutations("abcd"), st.integers(0, 4))
def test_ordering_loses_and_invents_nothing(live: list[str], order: list[str], known: int) -> None:
    original = {"metadata": {"finalizers": live}}
    patch = {"metadata": {"$setElementOrder/finalizers": order[:known]}}
    result = strategic_merge_patch(original, patch, POD)["metadata"]["finalizers"]
    assert sorted(result) == ["a", "b", "c", "d"]
    assert [item for item in result if item in order[:known]] == order[:known]
    others = [item for item in live if item not in order[:known]]
    assert [item for item in result if item in others] == others
