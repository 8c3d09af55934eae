"""Renders Helm charts to manifests: by Helm's own library, or by the ``helm`` program."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_grpclb.constraints import allows
from pytest_grpclb.errors import ChartError, HelmMissingError, ManifestError
from pytest_grpclb.manifests import install_order, read_manifests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_grpclb.model import Manifest

__all__ = ["HookNotRunWarning", "charts_directory", "render"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_PROGRAM_TIMEOUT_S = 60.0
"""Rendering takes some 0.1 s; what takes a minute waits for something that will not come."""

_KUBE_VERSION = "1.36.0"
"""What charts may ask for as ``.Capabilities.KubeVersion`` where no cluster's is given: what the
library says by itself, so that the program, whose own default goes back to 1.20, does as well."""

_SOURCE_LINE = re.compile(r"^---\n# Source: (.+)\n", re.MULTILINE)
"""What the helm program puts before each document; nothing inside of one can begin in column 0."""


class HookNotRunWarning(UserWarning):
    """A chart has a hook that ``helm install`` would run and that is not run here."""


def charts_directory() -> Path:
    """Return the directory of this package's own charts: the sample service, ``strategy``.

    :raises ChartError: if this installation has none
    """
    package = Path(__file__).parent
    # A wheel carries them inside of the package; a checkout that was installed editable, beside it.
    for directory in (package / "charts", package.parent / "charts"):
        if (directory / "strategy" / "Chart.yaml").is_file():
            return directory
    raise ChartError(
        str(package / "charts"),
        message="this installation of pytest-grpclb came without its charts; install it again",
    )


def render(
    chart: Path,
    *,
    values: Mapping[str, Any],
    release: str,
    namespace: str,
    kube_version: str = "",
) -> list[Manifest]:
    """Return what ``helm install`` would apply of *chart*, in the order in which it would.

    Left out are, as by ``helm template``, custom resource definitions in ``crds/``; and hooks:
    silently those that an installation does not run (test, upgrade, rollback, delete), with a
    HookNotRunWarning those that it does.

    :param chart: directory or archive
    :param values: override the chart's own; JSON values only
    :param kube_version: the cluster's, which the chart may ask for; empty: as if there were none
    :raises HelmMissingError: if there is neither Helm's library nor the program
    :raises ChartError: if the chart does not render, with Helm's own message, or renders to
        something that is no Kubernetes object; or if it is not for that version
    """
    version = kube_version or _KUBE_VERSION
    try:
        text = json.dumps(dict(values), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ChartError(str(chart), message=f"its values are not JSON: {error}") from error
    try:
        import helm_python  # noqa: F401 -- optional, and 0.15 s
    except ImportError as error:
        rendered = _by_program(chart, text, release, namespace, version, library_error=error)
    else:
        rendered = _by_library(chart, text, release, namespace, version)
    applied: list[Manifest] = []
    # Helm applies documents of one kind in the order of their templates' names.
    for template, source in sorted(rendered, key=lambda each: each[0]):
        try:
            manifests = list(read_manifests(template, source))
        except ManifestError as error:
            raise ChartError(str(chart), message=str(error)) from error
        for manifest in manifests:
            if hooks := _hooks(manifest):
                _warn_of_hooks(chart, template, manifest, hooks)
            else:
                applied.append(manifest)
    return sorted(applied, key=install_order)


def _by_library(
    chart: Path, values: str, release: str, namespace: str, kube_version: str
) -> Iterable[tuple[str, str]]:
    import helm_python

    try:
        helm_python.validate_release_name(release)
    except helm_python.HelmError as error:
        raise ChartError(str(chart), message=f'release name "{release}": {error}') from error
    try:
        with helm_python.Chart.load(chart) as loaded:
            _check_dependencies(chart, loaded)
            _check_version(chart, loaded.metadata.get("kubeVersion") or "", kube_version)
            rendered = _rendered(
                loaded,
                values,
                {"name": release, "namespace": namespace, "kube_version": kube_version},
            )
    except helm_python.HelmError as error:
        raise ChartError(str(chart), message=str(error).strip()) from error
    return [
        (template, text)
        for template, text in rendered.items()
        if not template.endswith("NOTES.txt") and not Path(template).name.startswith("_")
    ]


def _rendered(loaded: Any, values: str, options: Mapping[str, str]) -> dict[str, str]:
    """Render, for a version of Kubernetes: the library takes it, but its method has no name for it.

    Releases of it that have it another way render for a version of their own.
    """
    import helm_python

    given = inspect.signature(loaded.render).parameters
    native = getattr(getattr(helm_python, "_native", None), "call_string", None)
    if "kube_version" not in given and native is not None and hasattr(loaded, "_raw"):
        found: dict[str, str] = json.loads(
            native("helm_render", loaded._raw(), values, json.dumps(options))
        )
        return found
    known = {name: value for name, value in options.items() if name in given}
    rendered: dict[str, str] = loaded.render(json.loads(values), **known)
    return rendered


def _check_version(chart: Path, constraint: str, kube_version: str) -> None:
    """Refuse a chart that is for other versions of Kubernetes, as `helm install` does.

    :raises ChartError: in its words
    """
    try:
        fits = not constraint or allows(constraint, kube_version)
    except ValueError as error:
        raise ChartError(str(chart), message=f"kubeVersion of its Chart.yaml: {error}") from error
    if not fits:
        raise ChartError(
            str(chart),
            message=f"chart requires kubeVersion: {constraint} which is incompatible with "
            f"Kubernetes {kube_version}; take a release of it for that version, or another cluster",
        )


def _check_dependencies(chart: Path, loaded: Any) -> None:
    """Refuse a chart without its subcharts, which the library renders as if it asked for none.

    :raises ChartError: naming those that are missing, as the helm program does
    """
    wanted = {each["name"] for each in loaded.metadata.get("dependencies") or ()}
    if wanted:
        missing = sorted(wanted - {each["name"] for each in loaded.dependencies})
        if missing:
            raise ChartError(
                str(chart),
                message="found in Chart.yaml, but missing in charts/ directory: "
                f"{', '.join(missing)}; run: helm dependency build {chart}",
            )


def _by_program(
    chart: Path,
    values: str,
    release: str,
    namespace: str,
    kube_version: str,
    *,
    library_error: ImportError,
) -> Iterable[tuple[str, str]]:
    named = os.environ.get("HELM") or "helm"
    program = shutil.which(named)
    if program is None:
        raise HelmMissingError(str(chart), program=named) from library_error
    arguments = [program, "template", release, str(chart), "--namespace", namespace]
    arguments += ["--kube-version", kube_version, "--values", "-"]
    try:
        done = subprocess.run(
            arguments,
            input=values,
            capture_output=True,
            encoding="utf-8",
            timeout=_PROGRAM_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise ChartError(str(chart), message=f"{program} does not start: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ChartError(
            str(chart), message=f"{program} did not end within {_PROGRAM_TIMEOUT_S:g} s"
        ) from error
    if done.returncode != 0:
        # Before it may come notices on other things, such as a kubeconfig that others can read.
        told = done.stderr.partition("Error: ")[2] or done.stderr
        message = told.partition("\n\nUse --debug flag")[0].strip()
        raise ChartError(
            str(chart), message=message or f"{program} ended with exit code {done.returncode}"
        )
    parts = _SOURCE_LINE.split(done.stdout)
    return zip(parts[1::2], parts[2::2], strict=True)


def _hooks(manifest: Manifest) -> frozenset[str]:
    """Return the moments of a release at which *manifest* is applied, if it is no part of it.

    :source: Helm's documentation, "Chart Hooks"
    """
    named = (manifest["metadata"].get("annotations") or {}).get("helm.sh/hook") or ""
    return frozenset(each.strip() for each in named.split(",") if each.strip())


def _warn_of_hooks(chart: Path, template: str, manifest: Manifest, hooks: frozenset[str]) -> None:
    if lost := hooks & {"pre-install", "post-install"}:
        warnings.warn(
            f"chart {str(chart)!r}: {template}: {manifest['kind']} "
            f"{manifest['metadata']['name']!r} is a {' and '.join(sorted(lost))} hook and is not "
            "run; if the pods need it, apply it in a fixture of your own",
            HookNotRunWarning,
            stacklevel=3,
        )
