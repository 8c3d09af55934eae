"""Label and field selectors, in their texts and as objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_grpclb.clusters.embedded.store.selectors import (
    fields,
    label_selector,
    labels,
    matches_labels,
    selector_text,
)
from pytest_grpclb.clusters.embedded.store.status import BadRequestError

POD = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "labels": {
            "app": "web",
            "tier": "front",
            "app.kubernetes.io/version": "2.1",
            "weight": "5",
        },
    },
    "spec": {"nodeName": "node", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app=web",
        "app==web",
        "app = web , tier != back",
        "app in (web,api),tier notin (back)",
        "app,!canary",
        "! canary",
        "canary!=yes",
        "canary notin (yes)",
        "app.kubernetes.io/version=2.1",
        "weight>4,weight<6",
    ],
)
def test_a_label_selector_that_fits(text: str) -> None:
    assert labels(text)(POD)


@pytest.mark.parametrize(
    "text",
    [
        "app=api",
        "app!=web",
        "app in (api)",
        "app notin (web)",
        "canary",
        "!app",
        "app=",
        "canary=",
        "in",
        "notin in (a)",
        "weight>5",
        "weight<5",
        "app>1",
        "canary>0",
    ],
)
def test_a_label_selector_that_does_not(text: str) -> None:
    assert not labels(text)(POD)


def test_an_object_without_labels_lacks_every_label() -> None:
    assert labels("!app")({"metadata": {"name": "a"}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "app=web,a===b",
            "unable to parse requirement: 'a===b' of the label selector 'app=web,a===b'; write "
            "key=value, key!=value, key in (a,b), key notin (a,b), key or !key",
        ),
        (
            "app>many",
            "'many' in the label selector is not a whole number; > and < compare such only",
        ),
    ],
)
def test_a_label_selector_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        labels(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_a_selector_object(selector: dict[str, object], fits: bool) -> None:
    assert label_selector(selector)(POD) is fits
    assert labels(selector_text(selector))(POD) is fits


def test_a_selector_object_with_an_unknown_operator() -> None:
    with pytest.raises(BadRequestError) as caught:
        label_selector({"matchExpressions": [{"key": "app", "operator": "Near"}]})
    assert str(caught.value) == (
        "'Near' is not a label selector operator; use In, NotIn, Exists or DoesNotExist"
    )


def test_a_service_without_selector_selects_nothing() -> None:
    assert matches_labels({"app": "web"}, POD)
    assert not matches_labels({"app": "web", "x": "y"}, POD)
    assert not matches_labels({}, POD)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("metadata.name=web-1", True),
        ("metadata.name==web-1,metadata.namespace!=shop", False),
        ("status.phase=Running,spec.nodeName=node", True),
        ("status.phase!=Running", False),
        ("spec.hostNetwork=true", True),
        ("status.podIP=", True),
    ],
)
def test_a_field_selector(text: str, fits: bool) -> None:
    assert fields("pods", text)(POD) is fits


def test_an_absent_flag_is_false() -> None:
    assert fields("nodes", "spec.unschedulable=false")({"metadata": {"name": "n"}, "spec": {}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "spec.type=ClusterIP,spec.color=red",
            'field label not supported: "spec.color"; services can be selected by metadata.name, '
            "metadata.namespace, spec.clusterIP, spec.type",
        ),
        (
            "spec.type",
            "invalid selector: 'spec.type' of the field selector 'spec.type'; write field=value or "
            "field!=value",
        ),
    ],
)
def test_a_field_selector_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        fields("services", text)
    assert str(caught.value) == message


KEYS = st.sampled_from(["a", "b", "x.io/c"])
VALUES = st.sampled_from(["", "1", "two", "3-x"])
LABELS = st.dictionaries(KEYS, VALUES)
EXPRESSIONS = st.one_of(
    st.fixed_dictionaries({"key": KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
    st.fixed_dictionaries(
        {
            "key": KEYS,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(VALUES, min_size=1, max_size=3),
        }
    ),
)


@given(LABELS, st.lists(EXPRESSIONS, max_size=3), LABELS)
def test_a_selector_object_and_its_text_select_the_same(
    wanted: dict[str, str], expressions: list[dict[str, object]], own: dict[str, str]
) -> None:
    selector = {"matchLabels": wanted, "matchExpressions": expressions}
    obj = {"metadata": {"labels": own}}
    assert label_selector(selector)(obj) == labels(selector_text(selector))(obj)
