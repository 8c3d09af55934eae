"""What the user has said of the service under test. Imported in every run, so it imports little."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_grpclb.settings import PullSecret

__all__ = [
    "COMMAND_IMAGE",
    "AgeVariable",
    "Origin",
    "Probe",
    "RunningService",
    "ServiceChoice",
    "TlsFiles",
]


COMMAND_IMAGE = "service-under-test:command"
"""What a command goes by as an image where no image is named; only the embedded cluster has it."""


class Origin(enum.Enum):
    """Where the service under test comes from."""

    SAMPLE = "the sample service"
    IMAGE = "--grpclb-service-image"
    """Or a command that stands for one on the embedded cluster."""
    CHART = "--grpclb-chart"
    MANIFESTS = "--grpclb-manifests"
    RUNNING = "--grpclb-service"


class Probe(enum.Enum):
    """How the pods of an image are asked whether they are ready."""

    GRPC = "grpc"
    TCP = "tcp"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeVariable:
    """The environment variable by which a service is told its max connection age."""

    name: str
    template: str = "{s}"
    """Its value; ``{s}`` stands for seconds, ``{ms}`` for milliseconds."""

    def value(self, age_s: float) -> str:
        """Write an age as the service wants it."""
        return self.template.replace("{s}", f"{age_s:g}").replace("{ms}", f"{age_s * 1000:.0f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """A Service that somebody else has put into the cluster."""

    namespace: str
    name: str
    port: int | None
    """Of the Service; None: it has one only."""
    may_change: bool
    """Whether tests may scale, kill and restart its pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """What a client needs of a service that speaks TLS itself."""

    authority: Path
    """Certificates of who vouches for the servers, PEM."""
    certificate: Path | None = None
    """The client's own, for mutual TLS, PEM."""
    key: Path | None = None
    name: str = ""
    """A name in the servers' certificates; empty: they have the name that clients dial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChoice:
    """The service under test, as options and ini settings describe it."""

    origin: Origin = Origin.SAMPLE
    image: str = ""
    command: tuple[str, ...] = ()
    """What stands for the image on the embedded cluster."""
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_from: tuple[tuple[str, str], ...] = ()
    """Kind and name of config maps and secrets whose entries become variables."""
    probe: Probe = Probe.GRPC
    chart: Path | None = None
    values: tuple[Path, ...] = ()
    manifests: tuple[str, ...] = ()
    """Files, directories and patterns, below `root` unless they begin with a slash."""
    skipped_kinds: frozenset[str] = frozenset()
    """Kinds of object that are left out where the cluster does not know them."""
    workload: str = ""
    connection_age: AgeVariable | None = None
    running: RunningService | None = None
    tls: TlsFiles | None = None
    pull_secrets: tuple[PullSecret, ...] = ()
    """For the image, where the Deployment of it is made here."""
    root: Path = Path()
    """What paths and commands are relative to: pytest's rootdir."""
