"""What pods that do not get ready are most likely to suffer from."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_grpclb.clusters.hints import Hint, hint_of


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
REFUSED = 'failed to connect service "10.0.0.1:50051" within 1s: connect: connection refused'


def test_pods_that_are_ready_and_others_pods_tell_nothing() -> None:
    assert hint_of([pod(ready=True)], [event(UNIMPLEMENTED)]) is None
    assert hint_of([pod()], [event(UNIMPLEMENTED, uid="other")]) is None
    assert hint_of([pod()], []) is None


def test_what_no_time_mends_comes_before_what_it_may() -> None:
    hint = hint_of([pod()], [event(REFUSED), event(UNIMPLEMENTED)])
    assert hint is not None
    assert hint.hopeless
    assert "--grpclb-probe=tcp" in hint.text


def test_a_refused_connection_may_only_be_a_slow_start() -> None:
    assert hint_of([pod()], [event(REFUSED)]) == Hint(
        text="nothing listens on 10.0.0.1:50051: say where the service listens with "
        "--grpclb-service-port, or raise --grpclb-ready-timeout if it starts slowly",
        hopeless=False,
    )


def test_where_it_listens_instead_is_told() -> None:
    elsewhere = event("it listens on [::]:9000 only", reason="ListensElsewhere")
    assert hint_of([pod()], [event(REFUSED), elsewhere]) == Hint(
        text="nothing listens on 10.0.0.1:50051, the process is up: it listens on [::]:9000 only; "
        "have its command listen on {ip}:{port} (--grpclb-command, grpclb_embedded_images), say "
        "where it listens with --grpclb-service-port, or raise --grpclb-ready-timeout if it is "
        "still starting",
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


def test_an_image_that_cannot_be_had_is_told_with_the_kubelets_words() -> None:
    for reason, hopeless in (("ErrImageNeverPull", True), ("ImagePullBackOff", False)):
        waiting = {"reason": reason, "message": "Back-off pulling image 'shop:1'"}
        assert hint_of([pod(state={"waiting": waiting})], []) == Hint(
            text="the image of the container 'main' cannot be had: Back-off pulling image 'shop:1'",
            hopeless=hopeless,
        )


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
