"""From what the user has said of the service under test to where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_grpclb.sources.choice import COMMAND_IMAGE, Origin
from pytest_grpclb.sources.made import DEFAULT_PORT, ImageSource
from pytest_grpclb.sources.rendered import ManifestSource, ServiceSource, read_values
from pytest_grpclb.sources.running import RunningSource

if TYPE_CHECKING:
    from pytest_grpclb.sources.choice import ServiceChoice
    from pytest_grpclb.sources.protocol import Source

__all__ = ["source_of"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_RELEASE = "service"
"""Helm release name of a chart; each test has a namespace of its own."""


def source_of(choice: ServiceChoice) -> Source | None:
    """Return where the service under test comes from; None: the user has named none.

    :raises ServiceError: if a file that it takes cannot be read
    """
    match choice.origin:
        case Origin.SAMPLE:
            return None
        case Origin.IMAGE:
            return ImageSource(
                image=choice.image or COMMAND_IMAGE,
                port=choice.port or DEFAULT_PORT,
                environment=choice.environment,
                environment_from=choice.environment_from,
                probe=choice.probe,
                connection_age=choice.connection_age,
                manifests=choice.manifests,
                root=choice.root,
                skipped_kinds=choice.skipped_kinds,
                pull_secrets=tuple(each.copied_name for each in choice.pull_secrets),
            )
        case Origin.CHART:
            assert choice.chart is not None
            return ServiceSource(
                chart=choice.chart,
                release=_RELEASE,
                values=read_values(choice.values),
                workload=choice.workload,
                port=choice.port,
                connection_age=choice.connection_age,
                skipped_kinds=choice.skipped_kinds,
            )
        case Origin.MANIFESTS:
            return ManifestSource(
                paths=choice.manifests,
                root=choice.root,
                workload=choice.workload,
                port=choice.port,
                connection_age=choice.connection_age,
                skipped_kinds=choice.skipped_kinds,
            )
        case Origin.RUNNING:
            assert choice.running is not None
            return RunningSource(running=choice.running)
