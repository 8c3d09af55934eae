"""Generate pytest_grpclb/_pb from protos/ whenever the package is built or installed editable."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTOS = {
    "helloworld.proto": "helloworld_pb2",
    "grpclb/driver/v1/driver.proto": "driver_pb2",
    "grpc/lb/v1/load_balancer.proto": "load_balancer_pb2",
    "grpclb/reflection/v1/reflection.proto": "reflection_pb2",
}


class ProtoHook(BuildHookInterface[Any]):  # type: ignore[misc]
    """Runs protoc; messages only, since the stubs of a few methods are shorter by hand."""

    PLUGIN_NAME = "protos"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Write one flat module for each proto: no generated import names a top-level package.

        :raises RuntimeError: if protoc refuses a file
        """
        root = Path(self.root)
        if not (root / "protos").is_dir():
            return
        generate(root / "protos", root / "pytest_grpclb" / "_pb")


def generate(protos: Path, package: Path) -> None:
    """Compile every file of *protos* into *package*.

    :raises RuntimeError: if protoc refuses a file
    """
    import tempfile

    from grpc_tools import protoc

    well_known = resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        for source, module in PROTOS.items():
            arguments = [
                "protoc",
                f"-I{protos}",
                f"-I{well_known}",
                f"--python_out={scratch}",
                f"--pyi_out={scratch}",
                str(protos / source),
            ]
            if protoc.main(arguments) != 0:
                raise RuntimeError(f"protoc refused protos/{source}; its message is above")
            made = Path(scratch) / Path(source).with_suffix("")
            for suffix in (".py", ".pyi"):
                text = made.with_name(f"{made.name}_pb2{suffix}").read_text()
                (package / f"{module}{suffix}").write_text(text)
