"""Every option, on the command line and as an ini setting of the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.options.own_pods import OWN_PODS_OPTIONS
from pytest_grpclb.options.service import SERVICE_OPTIONS
from pytest_grpclb.options.shape import Option
from pytest_grpclb.settings import Settings

if TYPE_CHECKING:
    from _pytest.config.argparsing import Parser

__all__ = ["INI_ONLY", "OPTIONS", "Option", "add_options"]


_DEFAULTS = Settings()

OPTIONS = (
    Option(
        name="strategy",
        metavar="NAME[,NAME...]",
        default="headless",
        repeatable=True,
        help="load-balancing strategies to test, or 'all'; tests that use the grpclb fixture run "
        "once for each",
    ),
    Option(
        name="cluster",
        metavar="PROVIDER",
        default="embedded",
        help="where the cluster comes from: 'embedded' is a small Kubernetes on loopback",
    ),
    Option(
        name="replicas",
        metavar="N",
        default=str(_DEFAULTS.replicas),
        help="backends that a test starts with",
    ),
    Option(
        name="alpha",
        metavar="P",
        default=str(_DEFAULTS.alpha),
        help="probability of SKEWED for a spread that is even, per test",
    ),
    Option(
        name="power",
        metavar="P",
        default=str(_DEFAULTS.power),
        help="probability of SKEWED for one backend at --grpclb-skew times its share",
    ),
    Option(
        name="skew",
        metavar="FACTOR",
        default=str(_DEFAULTS.skew),
        help="the smallest skew that must be found out, as a multiple of the fair share",
    ),
    Option(
        name="ready-timeout",
        metavar="SECONDS",
        default=str(_DEFAULTS.ready_timeout_s),
        help="how long backends may take to become ready",
    ),
    Option(
        name="artifacts",
        metavar="DIR",
        default="",
        help="where pod logs, states and events go when a test fails",
    ),
    Option(
        name="image",
        metavar="REPOSITORY:TAG|REPOSITORY@DIGEST",
        default="",
        help="the image of this package's own programs; needed for --grpclb-cluster=kubeconfig, "
        "else it is built where it is needed",
    ),
    Option(
        name="base-image",
        metavar="IMAGE",
        default="",
        help="for kind: an image with this Python, such as a mirror's python:3.11-slim, that the "
        "image of this package's own programs begins with where it is built",
    ),
    Option(
        name="load-image",
        metavar="REPOSITORY:TAG",
        default="",
        repeatable=True,
        help="for kind: further images of this machine that pods use; repeatable",
    ),
    Option(
        name="kubeconfig",
        metavar="PATH",
        default="",
        help="for kubeconfig: the file; otherwise $KUBECONFIG, then ~/.kube/config",
    ),
    Option(
        name="context",
        metavar="NAME",
        default="",
        help="for kubeconfig: the context to use; it must be named, the current one is not taken",
    ),
    Option(
        name="ingress",
        metavar="HOST[:PORT[:HTTP_PORT]]",
        default="",
        help="for --grpclb-cluster=kubeconfig: where the cluster's ingress-nginx listens",
    ),
    Option(
        name="ingress-class",
        metavar="NAME",
        default="",
        help="for ingress-nginx: the IngressClass (default: nginx), whatever its controller's name",
    ),
    Option(
        name="ingress-host",
        metavar="HOST",
        default="",
        help="for ingress-nginx: what clients call (default: *.dev.mydomain.com); the namespace of "
        "each test takes the place of *",
    ),
    Option(
        name="kind-image",
        metavar="IMAGE",
        default="",
        help="for kind: the image of every node, in place of the one that this release is made for",
    ),
    Option(
        name="kind-config",
        metavar="PATH",
        default="",
        help="for kind: a configuration file that the plugin's own is merged into",
    ),
    Option(
        name="kind-name",
        metavar="NAME",
        default="",
        help="for kind: the name of the cluster; one that exists is used, and is not deleted",
    ),
    Option(
        name="keep",
        metavar="never|on-failure|always",
        default="never",
        help="for kind and kubeconfig: what to leave in place after tests; the command that "
        "deletes it is printed",
    ),
    Option(
        name="method",
        metavar="PACKAGE.SERVICE/METHOD",
        default="",
        help="the unary method that is called; otherwise what the fixture grpclb_call says",
    ),
    Option(
        name="request",
        metavar="JSON|@FILE",
        default="",
        help="what it is asked, as JSON, or the file that holds it",
    ),
    Option(
        name="metadata",
        metavar="KEY=VALUE",
        default="",
        repeatable=True,
        help="sent with each call; repeatable, in the ini file one a line",
    ),
    Option(
        name="timeout",
        metavar="SECONDS",
        default=str(_DEFAULTS.timeout_s),
        help="deadline of each call",
    ),
    Option(
        name="allowed-status",
        metavar="CODE[,CODE...]",
        default="",
        repeatable=True,
        help="gRPC status codes beside OK that are answers of the service, and no failures",
    ),
    Option(
        name="backend-key",
        metavar="KEY",
        default="",
        help="response header by which the service names the pod that answered (its name, UID "
        "or address), where neither a proxy nor the connection tells",
    ),
    Option(
        name="backend-field",
        metavar="FIELD[.FIELD...]",
        default="",
        help="the same by a field of the reply",
    ),
    Option(
        name="protos",
        metavar="FILE[,FILE...]",
        default="",
        repeatable=True,
        help="the .proto files that define the methods' types, relative to the root directory; "
        "otherwise the service is asked (server reflection)",
    ),
    Option(
        name="proto-path",
        metavar="DIR[,DIR...]",
        default="",
        repeatable=True,
        help="where .proto files and their imports are looked for; otherwise the root directory",
    ),
    Option(
        name="descriptor-set",
        metavar="FILE",
        default="",
        help="the same types as protoc --include_imports --descriptor_set_out writes them",
    ),
    Option(
        name="require",
        default="",
        flag=True,
        help="fail tests whose cluster cannot be had here, instead of skipping them",
    ),
    *OWN_PODS_OPTIONS,
    *SERVICE_OPTIONS,
)


INI_ONLY = ("grpclb_skip_kinds", "grpclb_embedded_images")
"""Settings that the command line does not have."""


def add_options(parser: Parser) -> None:
    """Declare every option, on the command line and as an ini setting of the same name."""
    group = parser.getgroup("grpclb", "gRPC load balancing on Kubernetes (pytest-grpclb)")
    for option in OPTIONS:
        told = f"{option.help} (default: {option.default or 'none'})"
        if option.flag:
            group.addoption(
                option.switch, dest=option.dest, action="store_true", default=None, help=option.help
            )
            parser.addini(option.dest, help=option.help, default=False, type="bool")
            continue
        group.addoption(
            option.switch,
            dest=option.dest,
            metavar=option.metavar,
            action="append" if option.repeatable or option.lines else "store",
            default=None,
            help=told,
        )
        if option.lines:
            parser.addini(option.dest, help=told, default=[], type="linelist")
        else:
            parser.addini(option.dest, help=told, default=None, type="string")
    parser.addini(
        "grpclb_skip_kinds",
        type="args",
        default=[],
        help="kinds of object that the service's chart or manifests have and its pods can do "
        "without, where they cannot be applied",
    )
    parser.addini(
        "grpclb_embedded_images",
        type="linelist",
        default=[],
        help="what runs an image on the embedded cluster, one a line: IMAGE = COMMAND ARGUMENT..., "
        "where {ip} and {port} stand for the pod's address and the container port named 'grpc', "
        "or the first; {port} without {ip} is another one for each pod, for what listens on all "
        "addresses; {root} stands for the directory that has the container's mounts",
    )
