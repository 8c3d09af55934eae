"""What to do about pods that do not get ready: read from their states and events. Pure.

:source: Kubernetes, ``pkg/kubelet/events`` and ``pkg/probe`` (reasons and messages)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.refusals import refusals, unscheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["HOPELESS_WAITS", "Hint", "hint_of"]

_NEVER_STARTS = frozenset({"ContainerCannotRun", "StartError"})
HOPELESS_WAITS = frozenset({"ErrImageNeverPull", "InvalidImageName"})
"""Reasons of waiting containers that no time mends; others may pass: they get the whole timeout."""
_NO_IMAGE = HOPELESS_WAITS | {"ErrImagePull", "ImagePullBackOff"}
_PORT_TAKEN = re.compile(r"(?i)address (is )?already in use|failed to bind|eaddrinuse|\bbind: ")
"""As gRPC's C core, the Go and Java runtimes, Node and libc say it."""
_SURELY_TAKEN = re.compile(r"(?i)address (is )?already in use|eaddrinuse|failed to bind to address")
_NO_FILE = re.compile(
    r"(?i)no such (file|directory)|not found|enoent|filenotfound|nosuchfile|does not exist|"
    r"cannot (find|open)|can't open"
)
"""As libc, and the runtimes of Python, Node, Java, Go and .NET say it."""
_OTHER_PROCESSOR = "exec format error"
"""execve(2), ENOEXEC."""
_LISTENING = (
    "pods of the embedded cluster are processes that share this machine's ports: have it listen on "
    "{ip}:{port}, or give it {port} alone, which is then another one for each pod "
    "(in --grpclb-command or grpclb_embedded_images)"
)
_ANOTHER = "another container of its pod listens there, or with hostNetwork another of its node"
_BROUGHT_BY = (
    "correct what names it (--grpclb-env-from, the chart or the manifests), or give the file that "
    "brings it with --grpclb-manifests"
)
_VAIN_STARTS = 2
"""Starts that fail for want of a port, or of a file that a mount would have: no time mends that."""
_REFUSED = re.compile(r"([\w.\[\]:]+:\d+)\W.*connection refused", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """One thing that keeps pods from being ready."""

    text: str
    """What it is, and what to set."""
    hopeless: bool
    """Whether no time will mend it, so that waiting is no use."""


def hint_of(
    pods: Sequence[Mapping[str, Any]],
    events: Iterable[Mapping[str, Any]],
    *,
    workload: str = "",
    crashes_allowed: int | None = None,
    last_words: Callable[[str, str], str] = lambda _pod, _container: "",
) -> Hint | None:
    """Return what is most likely to be wrong; None where nothing tells.

    :param events: of the namespace; only those of pods that are not ready or not made count
    :param workload: name of what makes the pods
    :param crashes_allowed: failed starts in a row after which waiting is no use; None: any number
    :param last_words: returns the end of the log of a container, by its pod's name and its own
    """
    unready = [pod for pod in pods if not _is_ready(pod)]
    uids = {pod["metadata"]["uid"] for pod in unready}
    events = list(events)
    concerning = [event for event in events if event["involvedObject"].get("uid") in uids]
    # A cause comes before its effects: processes end where another has taken their port.
    moved: dict[str, list[str]] = {}
    for event in concerning:
        if event.get("reason") == "MountedElsewhere":
            uid, path = event["involvedObject"]["uid"], event.get("message", "").partition(" ")[0]
            moved.setdefault(uid, []).append(path)
    hints = (
        *_of_events(concerning),
        *_of_statuses(unready, crashes_allowed, last_words, moved),
        # Quotas are raised, and nodes added, while one waits.
        *(Hint(text=text, hopeless=False) for text in unscheduled(unready)),
        *(Hint(text=text, hopeless=False) for text in refusals(events, workload) if workload),
    )
    return max(hints, key=lambda each: each.hopeless, default=None)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _of_statuses(
    pods: Sequence[Mapping[str, Any]],
    crashes_allowed: int | None,
    last_words: Callable[[str, str], str],
    moved: Mapping[str, Sequence[str]],
) -> Iterator[Hint]:
    """Yield what containers' states tell.

    :param moved: by a pod's UID: paths that a mount should be at, where it is not
    """
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or ():
            name = status["name"]
            waiting = (status.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in _NO_IMAGE:
                yield Hint(
                    text=f"the image of the container {name!r} cannot be had: "
                    f"{waiting.get('message') or waiting['reason']}",
                    hopeless=waiting["reason"] in HOPELESS_WAITS,
                )
                continue
            if waiting.get("reason") == "CreateContainerConfigError":
                yield Hint(
                    text=f"the container {name!r} needs what is not there: "
                    f"{waiting.get('message', '')}; {_BROUGHT_BY}",
                    hopeless=False,
                )
                continue
            ended = [
                found
                for state in ("state", "lastState")
                if (found := (status.get(state) or {}).get("terminated"))
            ]
            if not ended or status.get("ready"):
                continue
            code = ended[0].get("exitCode")
            if ended[0].get("reason") in _NEVER_STARTS:
                yield Hint(
                    text=f"the command of the container {name!r} cannot be started "
                    f"({ended[0].get('message', '')}): correct it (--grpclb-command, or "
                    "grpclb_embedded_images, where one of these names it)",
                    hopeless=True,
                )
                continue
            starts = status.get("restartCount", 0)
            words = last_words(pod["metadata"]["name"], name)
            missed = _missed(moved.get(pod["metadata"]["uid"], ()), words)
            why, vain = _why_ended(
                words, ended[0].get("message", ""), missed, embedded=_is_embedded(pod)
            )
            allowed = _VAIN_STARTS if vain else crashes_allowed
            yield Hint(
                text=f"the process of the container {name!r} ends by itself (exit code {code}): "
                f"{why}",
                hopeless=allowed is not None and starts >= allowed,
            )


def _why_ended(
    words: str, message: str, missed: Sequence[str], *, embedded: bool
) -> tuple[str, bool]:
    """Return why a process ends by itself, and whether it would for the same reason each time.

    :param words: its last
    :param message: of whoever started it
    :param missed: paths that its last words do not find, where mounts should be
    :param embedded: whether it shares this machine's ports and files
    """
    if _OTHER_PROCESSOR in f"{words} {message}":
        why = (
            "its image is for another kind of processor than the node's: build it for that "
            "one (--platform), or have its pods on other nodes"
        )
        return why, False
    if _PORT_TAKEN.search(words):
        why = f"its port is taken; {_LISTENING if embedded else _ANOTHER}"
        return why, bool(_SURELY_TAKEN.search(words))
    if missed:
        why = (
            f"its last words name {missed[0]!r}, where it mounts a volume; processes of "
            "the embedded cluster share this machine's files: have an argument or variable "
            "of the container name the path, which is then led to the volume, or the "
            f"command in grpclb_embedded_images, as {{root}}{missed[0]}"
        )
        return why, True
    return "its last words are below" if words.strip() else "it has written nothing", False


def _is_embedded(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod's node is this machine, on loopback."""
    return bool(pod.get("status", {}).get("hostIP", "").startswith("127."))


def _missed(paths: Sequence[str], words: str) -> list[str]:
    """Return which of the paths some line of the last words does not find, or has something in."""
    lines = [line for line in words.splitlines() if _NO_FILE.search(line)]
    # A path begins where no other path goes on, and ends at a whole component.
    return [
        path
        for path in paths
        if any(re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", line) for line in lines)
    ]


def _of_events(events: Sequence[Mapping[str, Any]]) -> Iterator[Hint]:
    unhealthy = [event.get("message", "") for event in events if event.get("reason") == "Unhealthy"]
    text = "\n".join(unhealthy)
    if "does not implement the grpc health protocol" in text:
        yield Hint(
            text="the service has no health service (grpc.health.v1.Health) that a gRPC probe "
            "could ask: set --grpclb-probe=tcp, or have its manifests probe by tcpSocket",
            hopeless=True,
        )
    if any(event.get("reason") == "SharedPort" for event in events):
        yield Hint(
            text=f"the service listens on all addresses; {_LISTENING}",
            hopeless=True,
        )
    for event in events:
        if event.get("reason") == "FailedMount":
            yield Hint(
                text=f"a volume cannot be made: {event.get('message', '')}; {_BROUGHT_BY}",
                hopeless=False,
            )
            break
    if 'responded with "NOT_SERVING"' in text:
        yield Hint(
            text="its health service answers NOT_SERVING: the service itself holds back; see its "
            "log, or raise --grpclb-ready-timeout if it starts slowly",
            hopeless=False,
        )
    elsewhere = next(
        (event.get("message", "") for event in events if event.get("reason") == "ListensElsewhere"),
        "",
    )
    for message in unhealthy:
        refused = _REFUSED.search(message)
        if refused and elsewhere:
            yield Hint(
                text=f"nothing listens on {refused[1]}, the process is up: {elsewhere}; have its "
                "command listen on {ip}:{port} (--grpclb-command, grpclb_embedded_images), say "
                "where it listens with --grpclb-service-port, or raise --grpclb-ready-timeout if "
                "it is still starting",
                hopeless=False,
            )
            return
        if refused:
            yield Hint(
                text=f"nothing listens on {refused[1]}: say where the service listens with "
                "--grpclb-service-port, or raise --grpclb-ready-timeout if it starts slowly",
                hopeless=False,
            )
            return
