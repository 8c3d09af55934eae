"""Backends from a Helm chart or from plain manifests."""

from __future__ import annotations

import glob
import tarfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_grpclb.chart import render
from pytest_grpclb.clusters.api.version import kube_version
from pytest_grpclb.errors import ManifestError, ServiceError
from pytest_grpclb.manifests import install_order, read_manifests, read_yaml
from pytest_grpclb.sources.fitting import LeftOutWarning, applicable, moved
from pytest_grpclb.sources.protocol import Backends
from pytest_grpclb.workloads import fitted, service_of, workload_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_grpclb.clusters.api.kube import KubeApi
    from pytest_grpclb.model import Manifest
    from pytest_grpclb.settings import Settings
    from pytest_grpclb.sources.choice import AgeVariable

__all__ = ["ManifestSource", "ServiceSource", "read_files", "read_values"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_KUSTOMIZE = frozenset({"kustomization.yaml", "kustomization.yml"})
"""Source: Kubernetes documentation, "Declarative Management ... Using Kustomize"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSource:
    """Where the backends come from: a Helm chart with a Deployment or StatefulSet."""

    chart: Path
    release: str
    values: Mapping[str, Any] = field(default_factory=dict)
    workload: str = ""
    """Its name, or KIND/NAME, where the chart has several."""
    port: int | None = None
    """Where the pods listen; None: their container port named "grpc", or the only one."""
    connection_age: AgeVariable | None = None
    skipped_kinds: frozenset[str] = frozenset()
    sets_replicas: bool = True
    """Whether the workload gets as many replicas as the test asks for, whatever the values say."""

    def manifests(self, *, namespace: str, version: str = "") -> list[Manifest]:
        """Render the chart.

        :param version: of the cluster's Kubernetes
        :raises ChartError: if it does not render
        """
        return render(
            self.chart,
            values=self.values,
            release=self.release,
            namespace=namespace,
            kube_version=version,
        )

    def backends(self, api: KubeApi, settings: Settings, *, namespace: str) -> Backends:
        """Render the chart, and find the workload in it.

        :raises ChartError: if it does not render
        :raises ServiceError: if the workload is not clear, or the cluster lacks something
        """
        source = f"chart {str(self.chart)!r}"
        for name in _definitions(self.chart):
            warnings.warn(
                f"{source}: {name} is left out: custom resource definitions are the cluster's, "
                "apply it in a fixture of your own",
                LeftOutWarning,
                stacklevel=2,
            )
        manifests = self.manifests(namespace=namespace, version=kube_version(api))
        return _found(manifests, self, api, settings, namespace, source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """Where the backends come from: files with a Deployment or StatefulSet."""

    paths: tuple[str, ...]
    root: Path
    workload: str = ""
    port: int | None = None
    connection_age: AgeVariable | None = None
    skipped_kinds: frozenset[str] = frozenset()
    sets_replicas: bool = True

    def backends(self, api: KubeApi, settings: Settings, *, namespace: str) -> Backends:
        """Read the files, and find the workload in them.

        :raises ServiceError: if a file is not there, the workload is not clear, or the cluster
            lacks something
        """
        manifests = read_files(self.paths, self.root)
        return _found(manifests, self, api, settings, namespace, source="--grpclb-manifests")


def _found(
    manifests: Sequence[Manifest],
    given: ServiceSource | ManifestSource,
    api: KubeApi,
    settings: Settings,
    namespace: str,
    *,
    source: str,
) -> Backends:
    manifests = moved(
        manifests, workload_of(manifests, source=source, workload=given.workload), namespace
    )
    service = service_of(
        manifests, namespace=namespace, source=source, workload=given.workload, port=given.port
    )
    foreign = [each for each in manifests if _leaves(each, namespace)]
    if foreign:
        told = ", ".join(
            f"{each['kind']} {each['metadata']['name']!r} to {each['metadata']['namespace']!r}"
            for each in foreign
        )
        raise ServiceError(
            source,
            message=f"it has objects that go to namespaces of their own: {told}",
            advice="leave metadata.namespace out: each test has a namespace of its own",
        )
    kept = applicable(manifests, api, source=source, skipped_kinds=given.skipped_kinds)
    if given.sets_replicas:
        kept = [
            fitted(
                each,
                replicas=settings.replicas,
                environment=age_variables(given.connection_age, settings),
                port=service.port,
            )
            if _is(each, service.kind, service.deployment)
            else each
            for each in kept
        ]
    return Backends(service=service, manifests=tuple(kept), replicas=settings.replicas)


def age_variables(variable: AgeVariable | None, settings: Settings) -> Mapping[str, str]:
    """Return what tells a service its max connection age, if it can be told and has one."""
    age_s = settings.max_connection_age_s
    if variable is None or age_s is None:
        return {}
    return {variable.name: variable.value(age_s)}


def read_files(paths: Sequence[str], root: Path) -> list[Manifest]:
    """Return the objects of files, in the order in which to apply them.

    :param paths: files, directories, and patterns that match such
    :raises ServiceError: if nothing is there, or it is no Kubernetes object
    """
    manifests: list[Manifest] = []
    for file in dict.fromkeys(file for path in paths for file in _files(path, root)):
        try:
            text = file.read_text(encoding="utf-8")
            if file.name in _KUSTOMIZE:
                raise ServiceError(
                    "--grpclb-manifests",
                    message=f"{str(file)!r} says what kustomize shall do and is no manifest",
                    advice="give the file that `kubectl kustomize` writes, or leave this one out "
                    "of the pattern",
                )
            manifests += read_manifests(str(file), text)
        except (ManifestError, UnicodeDecodeError, OSError) as error:
            raise ServiceError(
                "--grpclb-manifests", message=str(error), advice="correct the file"
            ) from error
    return sorted(manifests, key=install_order)


def read_values(files: Sequence[Path]) -> dict[str, Any]:
    """Return the values of several files, each of which wins over those before it, as in Helm.

    :raises ServiceError: if one is not there, or no mapping
    """
    merged: dict[str, Any] = {}
    for file in files:
        try:
            documents = read_yaml(str(file), file.read_text(encoding="utf-8"))
        except (ManifestError, UnicodeDecodeError, OSError) as error:
            raise ServiceError(
                "--grpclb-values", message=str(error), advice="correct the file"
            ) from error
        values = documents[0] if documents else None
        if len(documents) > 1 or not isinstance(values, dict | None):
            raise ServiceError(
                "--grpclb-values",
                message=f"{file} is no mapping",
                advice="it must be what `helm install --values` takes",
            )
        merged = _merged(merged, values or {})
    return merged


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def _files(path: str, root: Path) -> Iterator[Path]:
    # Path.glob takes no absolute patterns.
    found = sorted(glob.glob(str(root / path), recursive=True))  # noqa: PTH207
    files = [file for each in map(Path, found) for file in _below(each)]
    if not files:
        raise ServiceError(
            "--grpclb-manifests",
            message=f"nothing matches {path!r}" if not found else f"no manifests are in {path!r}",
            advice=f"it must be a file, directory or pattern below {str(root)!r}",
        )
    yield from files


def _below(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES)


def _is(manifest: Manifest, kind: str, name: str) -> bool:
    return bool(manifest["kind"] == kind and manifest["metadata"]["name"] == name)


def _leaves(manifest: Manifest, namespace: str) -> bool:
    return manifest["metadata"].get("namespace") not in {None, "", namespace}


def _definitions(chart: Path) -> list[str]:
    """Return the files in which a chart has custom resource definitions."""
    if chart.is_dir():
        found = [each.relative_to(chart).as_posix() for each in chart.glob("**/crds/**/*")]
    elif chart.is_file() and tarfile.is_tarfile(chart):
        with tarfile.open(chart) as archive:
            found = [name.partition("/")[2] for name in archive.getnames()]
    else:
        return []  # rendering it will say what is wrong with it
    return sorted(
        name for name in found if "crds" in Path(name).parts[:-1] and Path(name).suffix in _SUFFIXES
    )
