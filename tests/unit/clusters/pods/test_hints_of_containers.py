"""Images that cannot be had, and containers that cannot be made."""

from __future__ import annotations

import pytest

from pytest_grpclb.clusters.pods.hints import Hint, hint_of

from .made_pods import REFUSED, ended, event, pod

LOADED = "on kind, --grpclb-load-image brings it there from this machine"
OWN = "in its own manifests or chart (--grpclb-manifests, --grpclb-chart)"
LOGIN = (
    "name a Secret with --grpclb-image-pull-secret, or set imagePullSecrets in manifests of yours"
)
ANY_IMAGE = (
    f"push it to a registry that the nodes pull from; where that wants a login, {LOGIN}; {LOADED}"
)
UNREACHED = f"the nodes do not reach its registry, or do not trust it: have that mended; {LOADED}"


@pytest.mark.parametrize(
    ("reason", "message", "advice"),
    [
        ("ImagePullBackOff", 'Back-off pulling image "shop:1"', ANY_IMAGE),
        ("ErrImagePull", "pull access denied, repository does not exist", ANY_IMAGE),
        ("ErrImagePull", "dial tcp: lookup registry.local: no such host", UNREACHED),
        ("RegistryUnavailable", "image pull failed for shop:1", UNREACHED),
        (
            "ErrImagePull",
            "toomanyrequests: You have reached your pull rate limit",
            f"its registry limits how often strangers pull: {LOGIN}, or pull from a mirror; "
            f"{LOADED}",
        ),
        (
            "ErrImageNeverPull",
            'Container image "shop:1" is not present with pull policy of Never',
            f"bring it to the nodes beforehand ({LOADED}), or set another imagePullPolicy {OWN}",
        ),
        (
            "InvalidImageName",
            'Failed to apply default image tag "shop:": couldn\'t parse image reference',
            "correct its name",
        ),
        (
            "SignatureValidationFailed",
            "A signature was required, but no signature exists",
            "the nodes take none without a signature that they know: sign it, or have their policy "
            "changed",
        ),
        ("ImageInspectError", 'Failed to inspect image "shop:1"', ANY_IMAGE),
    ],
)
def test_an_image_that_cannot_be_had_is_told_with_the_kubelets_words(
    reason: str, message: str, advice: str
) -> None:
    waiting = {"reason": reason, "message": message}
    assert hint_of([pod(state={"waiting": waiting})], []) == Hint(
        text=f"the image of the container 'main' cannot be had: {message}; {advice}",
        hopeless=reason in {"ErrImageNeverPull", "InvalidImageName"},
    )


def test_why_a_pull_failed_is_taken_from_the_event_where_the_state_does_not_say() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "shop:1"'}
    failed = 'Failed to pull image "shop:1": dial tcp 10.9.9.9:443: i/o timeout'
    hint = hint_of([pod(state={"waiting": waiting})], [event(failed, reason="Failed")])
    assert hint is not None
    assert hint.text == (f"the image of the container 'main' cannot be had: {failed}; {UNREACHED}")


def test_an_embedded_pod_pulls_nothing() -> None:
    waiting = {"reason": "ErrImageNeverPull", "message": "the image 'shop:1' is not mapped"}
    embedded = pod(state={"waiting": waiting})
    embedded["status"]["hostIP"] = "127.3.0.1"
    hint = hint_of([embedded], [])
    assert hint is not None
    assert hint.text == (
        "the image of the container 'main' cannot be had: the image 'shop:1' is not mapped"
    )


def test_a_user_that_may_not_be_root_is_no_missing_config_map() -> None:
    message = 'container has runAsNonRoot and image will run as root (pod: "p", container: main)'
    waiting = {"reason": "CreateContainerConfigError", "message": message}
    assert hint_of([pod(state={"waiting": waiting})], []) == Hint(
        text="the container 'main' must not run as root, and its image does, or names its user "
        f"only by name: {message}; give the image a numeric USER, or the pod a runAsUser {OWN}",
        hopeless=False,
    )


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("CreateContainerConfigError", "the container 'main' cannot be configured: no; "),
        (
            "CreateContainerError",
            "the container 'main' cannot be made (CreateContainerError): no; ",
        ),
    ],
)
def test_a_container_that_is_not_made_is_told_with_the_kubelets_words(
    reason: str, text: str
) -> None:
    hint = hint_of([pod(state={"waiting": {"reason": reason, "message": "no"}})], [])
    assert hint == Hint(text=f"{text}correct it {OWN}", hopeless=False)


def test_a_command_that_is_not_there_is_told_while_it_is_tried_and_after() -> None:
    message = 'exec: "shop": executable file not found in $PATH'
    expected = Hint(
        text=f"the command of the container 'main' cannot be started ({message}): correct it "
        "(--grpclb-command, or grpclb_embedded_images, where one of these names it)",
        hopeless=True,
    )
    waiting = {"reason": "RunContainerError", "message": message}
    assert hint_of([pod(state={"waiting": waiting})], []) == expected
    assert hint_of([ended(128, 1, reason="StartError", message=message)], []) == expected


def test_a_process_that_is_killed_for_its_memory_has_a_limit() -> None:
    killed = ended(137, 2, reason="OOMKilled")
    told = (
        "the process of the container 'main' takes too much memory and is killed (OOMKilled, exit "
        "code 137): {}; raise resources.limits.memory " + OWN + ", or have it take less"
    )
    for limits, has in (
        ({}, "the node has no more memory for it"),
        ({"memory": "64Mi"}, "its memory limit is 64Mi"),
    ):
        killed["spec"] = {"containers": [{"name": "main", "resources": {"limits": limits}}]}
        assert hint_of([killed], [event(REFUSED)], crashes_allowed=2) == Hint(
            text=told.format(has), hopeless=True
        )
