"""What pods that do not get ready are most likely to suffer from."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.pods.hints import Hint, hint_of


def pod(*, ready: bool = False, **status: Any) -> dict[str, Any]:
    container = {"name": "main", "ready": ready, **status}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"uid": "u", "name": "p"},
        "status": {"conditions": conditions, "containerStatuses": [container]},
    }


def event(message: str, *, reason: str = "Unhealthy", uid: str = "u") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"uid": uid}}


def ended(code: int, restarts: int, **more: Any) -> dict[str, Any]:
    return pod(lastState={"terminated": {"exitCode": code, **more}}, restartCount=restarts)


UNIMPLEMENTED = "Startup probe failed: this server does not implement the grpc health protocol"
PLACE = "10.0.0.1:50051"
REFUSED = f"Startup probe failed: dial tcp {PLACE}: connect: connection refused"
UNCONNECTED = (
    f'Startup probe failed: timeout: failed to connect service "{PLACE}" within 1s: '
    "context deadline exceeded"
)


def test_pods_that_are_ready_and_others_pods_tell_nothing() -> None:
    assert hint_of([pod(ready=True)], [event(UNIMPLEMENTED)]) is None
    assert hint_of([pod()], [event(UNIMPLEMENTED, uid="other")]) is None
    assert hint_of([pod()], []) is None


def test_what_no_time_mends_comes_before_what_it_may() -> None:
    hint = hint_of([pod()], [event(REFUSED), event(UNIMPLEMENTED)])
    assert hint is not None
    assert hint.hopeless
    assert "--grpclb-probe=tcp" in hint.text


SAY_WHERE = (
    "say where the service listens with --grpclb-service-port, or raise --grpclb-ready-timeout if "
    "it starts slowly"
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (REFUSED, f"nothing listens on {PLACE}: {SAY_WHERE}"),
        (
            f'Readiness probe failed: Get "http://{PLACE}/ready": dial tcp {PLACE}: connect: '
            "connection refused",
            f"nothing listens on {PLACE}: {SAY_WHERE}",
        ),
        (
            UNCONNECTED,
            f"nothing that speaks gRPC in plaintext listens on {PLACE}: say where the service "
            "listens with --grpclb-service-port, probe it by TCP if it speaks TLS "
            "(--grpclb-probe=tcp, tcpSocket in its manifests), or raise --grpclb-ready-timeout if "
            "it starts slowly",
        ),
        (
            f"Readiness probe failed: dial tcp {PLACE}: i/o timeout",
            f"the node gets no answer from {PLACE}: have network policies and firewalls let nodes "
            "through to pods, or raise --grpclb-ready-timeout if it starts slowly",
        ),
        (
            "Readiness probe failed: timeout: health rpc did not complete within 2s",
            "its health service does not answer within 2s: see its log, or raise "
            "--grpclb-ready-timeout if it starts slowly, or the probe's timeoutSeconds in its own "
            "manifests or chart",
        ),
        (
            "Readiness probe failed: error: health rpc probe failed: rpc error: code = NotFound "
            "desc = unknown service",
            "its health service does not know the name that the probe asks for (grpc.service in "
            "its manifests or chart): correct that, or raise --grpclb-ready-timeout if it starts "
            "slowly",
        ),
        (
            "Liveness probe failed: HTTP probe failed with statuscode: 404",
            "its liveness probe fails: HTTP probe failed with statuscode: 404; correct the probe "
            "or what it asks, in its own manifests or chart, or raise --grpclb-ready-timeout if it "
            "starts slowly",
        ),
    ],
)
def test_a_failed_probe_may_only_be_a_slow_start(message: str, text: str) -> None:
    assert hint_of([pod()], [event(message)]) == Hint(text=text, hopeless=False)


def test_an_http_probe_of_a_grpc_port_is_never_answered() -> None:
    message = (
        f'Startup probe failed: Get "http://{PLACE}/": net/http: HTTP/1.x transport connection '
        'broken: malformed HTTP response "\\x00\\x00\\x06\\x04\\x00"'
    )
    assert hint_of([pod()], [event(message)]) == Hint(
        text="an httpGet probe asks a port that speaks HTTP/2, as gRPC does: have its manifests "
        "probe by grpc or tcpSocket, or ask another port",
        hopeless=True,
    )


def test_what_a_service_says_comes_before_what_was_said_when_it_did_not_listen() -> None:
    hint = hint_of([pod()], [event(UNCONNECTED), event(NOT_SERVING)])
    assert hint is not None
    assert hint.text.startswith("its health service answers NOT_SERVING")


def test_where_it_listens_instead_is_told() -> None:
    elsewhere = event("it listens on [::]:9000 only", reason="ListensElsewhere")
    for message in (REFUSED, UNCONNECTED):
        assert hint_of([pod()], [event(message), elsewhere]) == Hint(
            text=f"nothing listens on {PLACE}, the process is up: it listens on [::]:9000 only; "
            "have its command listen on {ip}:{port} (--grpclb-command, grpclb_embedded_images), "
            "say where it listens with --grpclb-service-port, or raise --grpclb-ready-timeout if "
            "it is still starting",
            hopeless=False,
        )


def test_crashes_are_hopeless_only_where_there_is_nothing_to_wait_for() -> None:
    for allowed, restarts, hopeless in ((None, 9, False), (2, 1, False), (2, 2, True)):
        hint = hint_of([ended(1, restarts)], [], crashes_allowed=allowed)
        assert hint is not None
        assert hint.hopeless is hopeless


def test_a_port_that_is_taken_is_read_from_the_log() -> None:
    for words in (
        "listen tcp :50051: bind: address already in use",
        "RuntimeError: Failed to bind to address [::]:50051",
        "Error: listen EADDRINUSE",
    ):
        for restarts, hopeless in ((1, False), (2, True)):
            assert crashed(restarts, words=words) == Hint(
                text="the process of the container 'main' ends by itself (exit code 1): its port "
                "is taken; another container of its pod listens there, or with hostNetwork another "
                "of its node",
                hopeless=hopeless,
            )


def test_pods_of_the_embedded_cluster_share_their_ports() -> None:
    embedded = ended(1, 2)
    embedded["status"]["hostIP"] = "127.3.0.1"
    hint = hint_of([embedded], [], last_words=lambda _pod, _name: "bind: address already in use")
    assert hint == Hint(
        text="the process of the container 'main' ends by itself (exit code 1): its port is taken; "
        "pods of the embedded cluster are processes that share this machine's ports: have it "
        "listen on {ip}:{port}, or give it {port} alone, which is then another one for each pod "
        "(in --grpclb-command or grpclb_embedded_images)",
        hopeless=True,
    )


def test_another_binding_that_fails_may_be_mended_by_time() -> None:
    hint = crashed(5, words="ldap: failed to bind, the directory is not up yet")
    assert hint is not None
    assert not hint.hopeless


def test_an_image_for_another_processor_is_read_from_the_log() -> None:
    words = "exec /usr/local/bin/python: exec format error"
    assert hint_of([ended(255, 1)], [], last_words=lambda _pod, _name: words) == Hint(
        text="the process of the container 'main' ends by itself (exit code 255): its image is for "
        "another kind of processor than the node's: build it for that one (--platform), or have "
        "its pods on other nodes",
        hopeless=False,
    )


MOVED = ("/etc/app", "/tmp")


def crashed(restarts: int, *, words: str) -> Hint | None:
    """Return what is said of a container that ends again and again with these words."""
    moved = [
        event(f"{path} lies at /x{path}, and nothing names it", reason="MountedElsewhere")
        for path in MOVED
    ]
    return hint_of([ended(1, restarts)], moved, last_words=lambda _pod, _name: words)


@pytest.mark.parametrize(
    "words",
    [
        "FileNotFoundError: [Errno 2] No such file or directory: '/etc/app/a.conf'",
        "open /etc/app/a.conf: no such file or directory",
        "Error: ENOENT: no such file or directory, open '/etc/app'",
        "java.nio.file.NoSuchFileException: /etc/app/a.conf",
    ],
)
def test_a_path_that_is_not_where_a_mount_would_put_it_is_told(words: str) -> None:
    for restarts, hopeless in ((1, False), (2, True)):
        assert crashed(restarts, words=f"starting\n{words}\nbye") == Hint(
            text="the process of the container 'main' ends by itself (exit code 1): its last words "
            "name '/etc/app', where it mounts a volume; processes of the embedded cluster share "
            "this machine's files: have an argument or variable of the container name the path, "
            "which is then led to the volume, or the command in grpclb_embedded_images, as "
            "{root}/etc/app",
            hopeless=hopeless,
        )


@pytest.mark.parametrize(
    "words",
    [
        "no database",
        # Parts of other paths, and paths that are there.
        'File "/home/ci/tmp/svc/app.py", line 3: database host not found',
        "no such file: /etc/app.d/x",
        "read /etc/app/a.conf\nno such file: /srv/db",
        "wrote /tmp/core",
    ],
)
def test_last_words_of_something_else_are_shown_and_waited_beyond(words: str) -> None:
    hint = crashed(9, words=words)
    assert hint is not None
    assert hint.text.endswith("its last words are below")
    assert not hint.hopeless


def test_what_a_container_refers_to_and_is_not_there_is_told() -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": 'configmap "shop" not found'}
    brought = (
        "correct what names it (--grpclb-env-from, the chart or the manifests), or give the file "
        "that brings it with --grpclb-manifests"
    )
    assert hint_of([pod(state={"waiting": waiting})], []) == Hint(
        text="the container 'main' needs what is not there: configmap \"shop\" not found; "
        f"{brought}",
        hopeless=False,
    )
    unmounted = event('MountVolume.SetUp failed: secret "db" not found', reason="FailedMount")
    assert hint_of([pod()], [unmounted]) == Hint(
        text=f'a volume cannot be made: MountVolume.SetUp failed: secret "db" not found; {brought}',
        hopeless=False,
    )


def test_a_shared_port_comes_before_the_crashes_that_it_causes() -> None:
    hint = hint_of([ended(1, 5)], [event("", reason="SharedPort")], crashes_allowed=1)
    assert hint is not None
    assert hint.text.startswith("the service listens on all addresses; ")


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


# --- init containers


def initialising(**status: Any) -> dict[str, Any]:
    found = pod(state={"waiting": {"reason": "PodInitializing"}})
    found["status"]["initContainerStatuses"] = [{"name": "migrate", "ready": False, **status}]
    return found


def test_an_init_container_that_crashes_is_named() -> None:
    crashing = initialising(
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 3}},
        restartCount=4,
    )
    asked = []

    def last_words(pod: str, container: str) -> str:
        asked.append((pod, container))
        return "no database"

    assert hint_of([crashing], [], last_words=last_words) == Hint(
        text="the process of the init container 'migrate' ends by itself (exit code 3): its last "
        "words are below",
        hopeless=False,
    )
    assert asked == [("p", "migrate")]


def test_an_init_container_that_goes_on_is_waited_for_unless_it_is_a_sidecar() -> None:
    running = initialising(state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    assert hint_of([running], []) == Hint(
        text="the init container 'migrate' has not ended, and no other is started before: see its "
        "log, or raise --grpclb-ready-timeout if it takes long",
        hopeless=False,
    )
    running["spec"] = {"initContainers": [{"name": "migrate", "restartPolicy": "Always"}]}
    assert hint_of([running], []) is None


def test_an_init_container_that_is_done_tells_nothing() -> None:
    done = initialising(state={"terminated": {"exitCode": 0, "reason": "Completed"}}, ready=True)
    assert hint_of([done], []) is None


# --- states come before events, and events pass

NOT_SERVING = 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'
UNMOUNTED = 'MountVolume.SetUp failed for volume "kube-api-access": "kube-root-ca.crt" not found'
CRASHED = "the process of the container 'main' ends by itself (exit code 1): "


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def timed(message: str, second: int, *, reason: str = "Unhealthy") -> dict[str, Any]:
    return {**event(message, reason=reason), "lastTimestamp": at(second)}


def text_of(*arguments: Any) -> str:
    hint = hint_of(*arguments, last_words=lambda _pod, _name: "KeyError: 'DATABASE_URL'")
    return "" if hint is None else hint.text


def test_a_crash_does_not_hide_behind_its_own_probe() -> None:
    assert text_of([ended(1, 2)], [event(REFUSED)]) == f"{CRASHED}its last words are below"


def test_a_process_that_its_probe_ends_does_not_end_by_itself() -> None:
    killed = "Container main failed startup probe, will be restarted"
    ran = {"startedAt": at(1), "finishedAt": at(9)}
    events = [timed(REFUSED, 9), timed(killed, 9, reason="Killing")]
    assert text_of([ended(143, 2, **ran)], events) == f"nothing listens on {PLACE}: {SAY_WHERE}"
    # One before it was; it itself was not.
    ran = {"startedAt": at(10), "finishedAt": at(11)}
    assert text_of([ended(1, 2, **ran)], events).startswith(CRASHED)


def test_a_process_that_outlives_its_predecessor_has_got_over_its_crash() -> None:
    again = ended(1, 1, startedAt=at(1), finishedAt=at(3))
    again["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": at(5)}}
    assert text_of([again], [timed(REFUSED, 11)]).startswith(CRASHED)
    assert text_of([again], [timed(REFUSED, 13)]) == f"nothing listens on {PLACE}: {SAY_WHERE}"


def test_a_volume_that_came_late_is_not_missing() -> None:
    event_of_it = timed(UNMOUNTED, 1, reason="FailedMount")
    pulling = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    told = text_of([pod(state=pulling)], [event_of_it])
    assert told.startswith("the image of the container 'main' cannot be had")
    assert text_of([ended(1, 2)], [event_of_it]).startswith(CRASHED)
    # While an image is pulled, a container's state says no more than before.
    creating = pod(state={"waiting": {"reason": "ContainerCreating"}})
    assert text_of([creating], [event_of_it]).startswith("a volume cannot be made")
    pulled = timed('Pulling image "shop:1"', 2, reason="Pulling")
    assert text_of([creating], [event_of_it, pulled]) == ""


def test_a_node_that_cannot_make_the_sandbox_is_told() -> None:
    failed = event("plugin type=calico failed", reason="FailedCreatePodSandBox")
    assert text_of([pod()], [failed]) == (
        "the node cannot make the pod's sandbox: plugin type=calico failed; that is the node's own "
        "trouble (its network, its runtime): have it mended"
    )


def test_a_probe_that_failed_before_is_past_when_its_container_is_ready_or_was_started_anew() -> (
    None
):
    running = pod(state={"running": {"startedAt": at(10)}})
    assert text_of([running], [timed(REFUSED, 9)]) == ""
    assert text_of([running], [timed(REFUSED, 10)]) != ""
    well = {"name": "proxy", "ready": True, "state": {"running": {"startedAt": at(1)}}}
    running["status"]["containerStatuses"].append(well)
    of_proxy = timed(REFUSED, 12)
    of_proxy["involvedObject"]["fieldPath"] = "spec.containers{proxy}"
    assert text_of([running], [of_proxy]) == ""
    of_proxy["involvedObject"]["fieldPath"] = "spec.containers{main}"
    assert text_of([running], [of_proxy]) != ""


def test_a_service_that_says_it_does_not_serve_is_told() -> None:
    message = 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'
    assert hint_of([pod()], [event(message)]) == Hint(
        text="its health service answers NOT_SERVING: the service itself holds back; see its log, "
        "or raise --grpclb-ready-timeout if it starts slowly",
        hopeless=False,
    )


def test_a_process_that_ends_in_silence_has_no_last_words() -> None:
    hint = hint_of([ended(0, 2)], [], crashes_allowed=2)
    assert hint == Hint(
        text="the process of the container 'main' ends by itself (exit code 0): it has written "
        "nothing",
        hopeless=True,
    )
