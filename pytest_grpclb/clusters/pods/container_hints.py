"""What keeps one container from running, as its state tells, and what to do about it. Pure.

:source: Kubernetes, ``pkg/kubelet/images/types.go``, ``pkg/kubelet/container/sync_result.go`` and
    ``pkg/kubelet/kuberuntime`` (reasons and messages); containerd, ``internal/cri`` (StartError)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.pods.event_times import killed_by_probe, outlives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["BROUGHT_BY", "HOPELESS_WAITS", "LISTENING", "Hint", "is_embedded", "of_containers"]

_NEVER_STARTS = frozenset({"ContainerCannotRun", "RunContainerError", "StartError"})
HOPELESS_WAITS = frozenset({"ErrImageNeverPull", "InvalidImageName"})
"""Reasons of waiting containers that no time mends; others may pass: they get the whole timeout."""
_NO_IMAGE = HOPELESS_WAITS | {
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_UNMADE = frozenset(
    {"CreateContainerError", "PostStartHookError", "PreCreateHookError", "PreStartHookError"}
)
_OWN = "in its own manifests or chart (--grpclb-manifests, --grpclb-chart)"
_LOADED = "on kind, --grpclb-load-image brings it there from this machine"
_LOGIN = (
    "name a Secret with --grpclb-image-pull-secret, or set imagePullSecrets in manifests of yours"
)
_OF_IMAGES = (
    (
        re.compile("is not present with pull policy of Never|ErrImageNeverPull"),
        f"bring it to the nodes beforehand ({_LOADED}), or set another imagePullPolicy {_OWN}",
    ),
    (re.compile("InvalidImageName|Failed to apply default image tag"), "correct its name"),
    (
        re.compile("SignatureValidationFailed"),
        "the nodes take none without a signature that they know: sign it, or have their policy "
        "changed",
    ),
    (
        re.compile(r"toomanyrequests|429 Too Many"),
        f"its registry limits how often strangers pull: {_LOGIN}, or pull from a mirror; {_LOADED}",
    ),
    (
        re.compile(r"dial tcp|no such host|i/o timeout|connection refused|x509: |RegistryUnavail"),
        f"the nodes do not reach its registry, or do not trust it: have that mended; {_LOADED}",
    ),
)
_ANY_IMAGE = (
    f"push it to a registry that the nodes pull from; where that wants a login, {_LOGIN}; {_LOADED}"
)
_AS_ROOT = re.compile("runAsNonRoot|breaks non-root policy")
_NOT_THERE = re.compile(r"not found|couldn't find key", re.IGNORECASE)
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
LISTENING = (
    "pods of the embedded cluster are processes that share this machine's ports: have it listen on "
    "{ip}:{port}, or give it {port} alone, which is then another one for each pod "
    "(in --grpclb-command or grpclb_embedded_images)"
)
_ANOTHER = "another container of its pod listens there, or with hostNetwork another of its node"
BROUGHT_BY = (
    "correct what names it (--grpclb-env-from, the chart or the manifests), or give the file that "
    "brings it with --grpclb-manifests"
)
_VAIN_STARTS = 2
"""Starts that fail for want of a port, or of a file that a mount would have: no time mends that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """One thing that keeps pods from being ready."""

    text: str
    """What it is, and what to set."""
    hopeless: bool
    """Whether no time will mend it, so that waiting is no use."""


def of_containers(
    pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    *,
    crashes_allowed: int | None,
    last_words: Callable[[str, str], str],
) -> Iterator[Hint]:
    """Yield what a pod's containers' states tell, first of those that run before the others.

    A process that was ended for failing a probe did not end by itself: that is told by the probe.

    :param events: of the pod
    :param crashes_allowed: failed starts in a row after which waiting is no use; None: any number
    :param last_words: returns the end of the log of a container, by its pod's name and its own
    """
    found = pod.get("status", {})
    for what, field in (("init container", "initContainerStatuses"), _CONTAINERS):
        for status in found.get(field) or ():
            name = f"{what} {status['name']!r}"
            waiting = (status.get("state") or {}).get("waiting") or {}
            hint = _of_waiting(name, waiting, pod, events)
            if hint is None:
                hint = _of_ended(name, status, pod, events, crashes_allowed, last_words)
            if hint is not None:
                yield hint


_CONTAINERS = ("container", "containerStatuses")


def _of_waiting(
    name: str,
    waiting: Mapping[str, Any],
    pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
) -> Hint | None:
    reason, message = waiting.get("reason"), waiting.get("message", "")
    if reason in _NO_IMAGE:
        told = message or reason
        if reason == "ImagePullBackOff" and "ErrImagePull" not in told:
            told = _pull_failure(events) or told  # kubelets before 1.32 say why in an event only
        text = f"the image of the {name} cannot be had: {told}"
        if not is_embedded(pod):
            advice = (how for which, how in _OF_IMAGES if which.search(f"{reason}: {told}"))
            text += f"; {next(advice, _ANY_IMAGE)}"
        return Hint(text=text, hopeless=reason in HOPELESS_WAITS)
    if reason == "CreateContainerConfigError":
        if _AS_ROOT.search(message):
            text = (
                f"the {name} must not run as root, and its image does, or names its user only by "
                f"name: {message}; give the image a numeric USER, or the pod a runAsUser {_OWN}"
            )
        elif _NOT_THERE.search(message):
            text = f"the {name} needs what is not there: {message}; {BROUGHT_BY}"
        else:
            text = f"the {name} cannot be configured: {message}; correct it {_OWN}"
        return Hint(text=text, hopeless=False)
    if reason in _UNMADE:
        text = f"the {name} cannot be made ({reason}): {message}; correct it {_OWN}"
        return Hint(text=text, hopeless=False)
    if reason in _NEVER_STARTS:
        return _unstarted(name, message)
    return None


def _pull_failure(events: Sequence[Mapping[str, Any]]) -> str:
    told = [str(each.get("message", "")) for each in events if each.get("reason") == "Failed"]
    return next((each for each in told if each.startswith("Failed to pull image")), "")


def _unstarted(name: str, message: str) -> Hint:
    return Hint(
        text=f"the command of the {name} cannot be started ({message}): correct it "
        "(--grpclb-command, or grpclb_embedded_images, where one of these names it)",
        hopeless=True,
    )


def _of_ended(
    name: str,
    status: Mapping[str, Any],
    pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    crashes_allowed: int | None,
    last_words: Callable[[str, str], str],
) -> Hint | None:
    ended = [
        found
        for state in ("state", "lastState")
        if (found := (status.get(state) or {}).get("terminated"))
    ]
    if not ended or status.get("ready"):
        return None
    last, code = ended[0], ended[0].get("exitCode")
    if name.startswith("init ") and code == 0 and "terminated" in (status.get("state") or {}):
        return None  # it has done what it was there for
    if last.get("reason") in _NEVER_STARTS:
        return _unstarted(name, last.get("message", ""))
    if killed_by_probe(status["name"], last, events) or outlives(status, last, events):
        return None
    starts = status.get("restartCount", 0)
    words = last_words(pod["metadata"]["name"], status["name"])
    if last.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, status["name"])
        has = f"its memory limit is {limit}" if limit else "the node has no more memory for it"
        told = (
            f"the process of the {name} takes too much memory and is killed (OOMKilled, exit code "
            f"{code}): {has}; raise resources.limits.memory {_OWN}, or have it take less"
        )
        return Hint(text=told, hopeless=crashes_allowed is not None and starts >= crashes_allowed)
    missed = _missed(_moved(events), words)
    why, vain = _why_ended(words, last.get("message", ""), missed, embedded=is_embedded(pod))
    allowed = _VAIN_STARTS if vain else crashes_allowed
    return Hint(
        text=f"the process of the {name} ends by itself (exit code {code}): {why}",
        hopeless=allowed is not None and starts >= allowed,
    )


def _memory_limit(pod: Mapping[str, Any], container: str) -> str:
    spec = pod.get("spec", {})
    for each in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if each["name"] == container:
            limits = (each.get("resources") or {}).get("limits") or {}
            return str(limits.get("memory", ""))
    return ""


def _moved(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return paths that a mount should be at, where it is not: a pod of the embedded cluster."""
    return [
        event.get("message", "").partition(" ")[0]
        for event in events
        if event.get("reason") == "MountedElsewhere"
    ]


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
        why = f"its port is taken; {LISTENING if embedded else _ANOTHER}"
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


def is_embedded(pod: Mapping[str, Any]) -> bool:
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
