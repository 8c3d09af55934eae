"""How the pods that this package makes are on a real cluster: its options, and what they say."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import OptionError
from pytest_grpclb.options.shape import Option
from pytest_grpclb.options.values import image_name
from pytest_grpclb.settings import PROGRAMS, OwnPods, PullSecret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["OWN_PODS_OPTIONS", "read_own_pods"]

_DEFAULT = OwnPods()

OWN_PODS_OPTIONS = (
    Option(
        name="envoy-image",
        metavar="REPOSITORY:TAG|REPOSITORY@DIGEST",
        default="",
        help="for kind and kubeconfig: the image of Envoy, where nodes cannot pull it from Docker "
        "Hub",
    ),
    Option(
        name="image-pull-secret",
        metavar="[NAMESPACE/]NAME[,...]",
        default="",
        repeatable=True,
        help="for kind and kubeconfig: Secrets by which nodes may pull the images of the pods that "
        "this package makes; one with a namespace is copied from there; repeatable",
    ),
    Option(
        name="cluster-domain",
        metavar="DOMAIN",
        default=_DEFAULT.cluster_domain,
        help="for kind and kubeconfig: the cluster's DNS domain",
    ),
    Option(
        name="run-as-user",
        metavar="UID|none",
        default="",
        help="for kind and kubeconfig: the user of this package's own pods, if not 65532; 'none' "
        "where the cluster gives pods one, as OpenShift does",
    ),
    Option(
        name="pod-resources",
        metavar="JSON",
        default="",
        help="for kind and kubeconfig: requests and limits of this package's own containers, or an "
        f"object of them by program ({', '.join(PROGRAMS)}); null takes one away that they have",
    ),
)

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SECRET = re.compile(rf"(?:({_LABEL})/)?({_LABEL}(?:\.{_LABEL})*)")
_RESOURCE_KEYS = frozenset({"requests", "limits", "claims"})
""":source: Kubernetes API, ResourceRequirements v1 core"""


def read_own_pods(given: Mapping[str, Any], *, cluster: str) -> OwnPods:
    """Return what the options say; on the embedded cluster, where none of it holds, the defaults.

    :param given: by name of the option
    :param cluster: the provider's name
    :raises OptionError: if one cannot be used
    """
    found = OwnPods(
        envoy_image=image_name("--grpclb-envoy-image", given["envoy-image"], digest=True),
        pull_secrets=_pull_secrets(given["image-pull-secret"]),
        cluster_domain=_domain(given["cluster-domain"]),
        security=_security(given["run-as-user"]),
        resources=_resources(given["pod-resources"]),
    )
    return _DEFAULT if cluster == "embedded" else found


def _pull_secrets(texts: Sequence[str]) -> tuple[PullSecret, ...]:
    """Return the Secrets that are named.

    :raises OptionError: if a name is none, or two of them would be one in the run's namespace
    """
    option, found = "--grpclb-image-pull-secret", dict[str, PullSecret]()
    for text in (part.strip() for each in texts for part in re.split(r"[,\n]", each)):
        if not text:
            continue
        matched = _SECRET.fullmatch(text)
        if matched is None or len(matched[2]) > 253:
            raise OptionError(option, text, expected="NAME or NAMESPACE/NAME of a Secret")
        secret = PullSecret(name=matched[2], namespace=matched[1] or "")
        if found.setdefault(secret.name, secret) != secret:
            raise OptionError(
                option, text, expected="names that differ: copies lie in one namespace"
            )
    return tuple(found.values())


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise OptionError(
            "--grpclb-cluster-domain",
            text,
            expected="a DNS name, such as cluster.local, without a dot at its end",
        )
    return text


def _security(text: str) -> dict[str, int | None]:
    if not text:
        return {}
    if text == "none":
        return {"runAsUser": None, "runAsGroup": None}
    # Kubernetes' own limit; 0 is root.
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 0 < int(text) < 2**31:
        raise OptionError(
            "--grpclb-run-as-user",
            text,
            expected="a user's number, 1 or more: the programs need not be root; or none",
        )
    return {"runAsUser": int(text), "runAsGroup": int(text)}


def _resources(text: str) -> dict[str, Any]:
    """Return what is wanted, by program."""
    if not text:
        return {}
    option = "--grpclb-pod-resources"
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        told = f"JSON: {error.msg}, at line {error.lineno}, column {error.colno}"
        raise OptionError(option, text, expected=told) from error
    if isinstance(given, dict) and given.keys() <= _RESOURCE_KEYS:
        given = dict.fromkeys(PROGRAMS, given)
    expected = (
        'an object such as {"limits": {"cpu": "1"}}, or such objects by program: '
        f"{', '.join(PROGRAMS)}"
    )
    if not isinstance(given, dict) or not given.keys() <= set(PROGRAMS):
        raise OptionError(option, text, expected=expected)
    for each in given.values():
        if not isinstance(each, dict) or not each.keys() <= _RESOURCE_KEYS:
            raise OptionError(option, text, expected=expected)
    return given
