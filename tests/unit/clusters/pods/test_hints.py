"""What pods that do not get ready are most likely to suffer from."""

from __future__ import annotations

import pytest

from pytest_grpclb.clusters.pods.hints import Hint, hint_of

from .made_pods import (
    NOT_SERVING,
    PLACE,
    REFUSED,
    SAY_WHERE,
    UNCONNECTED,
    UNIMPLEMENTED,
    ended,
    event,
    pod,
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
