"""The types of a service's messages, in a pool of their own, and where they come from."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pytest_grpclb.calls.names import near, split_name
from pytest_grpclb.errors import CallError, ProtocMissingError, TypesError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_grpclb.settings import TypeSource

__all__ = ["Types", "missing_imports", "types_of_files", "well_known"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_WELL_KNOWN = "google/protobuf/"


class Types:
    """Descriptors of services and messages.

    The pool is private: a process that has the same protos compiled in refuses a second copy of
    them in the common one.
    """

    def __init__(
        self, files: Iterable[descriptor_pb2.FileDescriptorProto], *, told_by: str
    ) -> None:
        """Build the pool.

        :param told_by: where the types come from, for people
        :raises TypesError: if the files do not fit together
        """
        self.told_by = told_by
        self.pool = descriptor_pool.DescriptorPool()
        self._services: dict[str, Any] = {}
        by_name = {each.name: each for each in files}
        added: set[str] = set()

        def add(name: str, wanted_by: str) -> None:
            if name in added:
                return
            added.add(name)
            file = by_name.get(name) or well_known(name)
            if file is None:
                raise TypesError(
                    told_by,
                    what=f"{wanted_by!r} imports {name!r}, which is not there",
                    advice="protoc writes such files with --include_imports",
                )
            for each in file.dependency:
                add(each, name)
            try:
                self.pool.Add(file)  # type: ignore[attr-defined, unused-ignore]
            except AttributeError:  # of some versions; both do the same
                self.pool.AddSerializedFile(file.SerializeToString())

        for file in by_name.values():
            add(file.name, file.name)
        try:
            for file in by_name.values():
                prefix = f"{file.package}." if file.package else ""
                for service in file.service:
                    name = prefix + service.name
                    self._services[name] = self.pool.FindServiceByName(name)
        except (KeyError, TypeError) as error:
            raise TypesError(
                told_by, what=f"its files do not fit together: {error}", advice="make them anew"
            ) from error

    def services(self) -> tuple[str, ...]:
        """Return the full names of the services."""
        return tuple(sorted(self._services))

    def method(self, name: str) -> Any:
        """Return the descriptor of a method by its name, "package.Service/Method".

        :raises CallError: if there is no such service or method, listing what is like it
        """
        service_name, method_name = split_name(name)
        service = self._services.get(service_name)
        if service is None:
            raise CallError(
                name,
                what=f"{self.told_by} knows no service {service_name!r}",
                advice=near(service_name, self._services),
            )
        method = service.methods_by_name.get(method_name)
        if method is None:
            raise CallError(
                name,
                what=f"service {service_name!r} has no method {method_name!r}",
                advice=near(method_name, service.methods_by_name),
            )
        return method

    def new(self, descriptor: Any) -> Any:
        """Return an empty message of a type."""
        get: Any = getattr(message_factory, "GetMessageClass", None)
        if get is None:  # before protobuf 4.22
            factory: Any = message_factory.MessageFactory(self.pool)
            get = factory.GetPrototype
        return get(descriptor)()


def types_of_files(source: TypeSource) -> Types:
    """Return the types that .proto files, or a descriptor set, define.

    :raises TypesError: if the files cannot be read, or do not compile; with protoc's own message
    :raises ProtocMissingError: if there is nothing here that compiles
    """
    return _of_set(source) if source.descriptor_set is not None else _compiled(source)


def missing_imports(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> tuple[str, ...]:
    """Return what *files* import and is not among them, nor known to everybody."""
    known = {each.name: each for each in files}
    wanted = {name for each in known.values() for name in each.dependency}
    return tuple(sorted(name for name in wanted - known.keys() if well_known(name) is None))


def well_known(name: str) -> descriptor_pb2.FileDescriptorProto | None:
    """Return a file that comes with protobuf itself, by its name; None: it is no such."""
    if not name.startswith(_WELL_KNOWN):
        return None
    file = descriptor_pb2.FileDescriptorProto()
    try:
        # First the pool: of a file that is in it, protobuf 4.21 cannot import the module any more.
        found = descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        try:
            module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        except ImportError:
            return None
        found = module.DESCRIPTOR
    found.CopyToProto(file)
    return file


def _of_set(source: TypeSource) -> Types:
    path = source.descriptor_set
    assert path is not None
    told_by = f"descriptor set {str(path)!r}"
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise TypesError(
            told_by,
            what=f"it cannot be read: {error.strerror}",
            advice="mend --grpclb-descriptor-set",
        ) from error
    return _parsed(encoded, told_by)


def _parsed(encoded: bytes, told_by: str) -> Types:
    try:
        files = list(descriptor_pb2.FileDescriptorSet.FromString(encoded).file)
    except DecodeError:
        files = []
    if not any(each.name for each in files):
        raise TypesError(
            told_by,
            what=f"its {len(encoded)} bytes are no FileDescriptorSet",
            advice="write it with protoc --include_imports --descriptor_set_out=FILE",
        )
    return Types(files, told_by=told_by)


@functools.cache
def _compiled(source: TypeSource) -> Types:
    told_by = ", ".join(map(str, source.protos))
    if importlib.util.find_spec("grpc_tools") is None:
        raise ProtocMissingError(told_by)
    missing = [str(each) for each in source.protos if not each.is_file()]
    if missing:
        raise TypesError(
            ", ".join(missing),
            what="there is no such file",
            advice="name it as seen from pytest's rootdir, or from a folder of --grpclb-proto-path",
        )
    with tempfile.TemporaryDirectory(prefix="grpclb-protos-") as scratch:
        made = Path(scratch) / "types.pb"
        command = [
            *(sys.executable, "-P", "-m", "grpc_tools.protoc"),
            *(f"--proto_path={path}" for path in source.proto_path),
            "--include_imports",
            f"--descriptor_set_out={made}",
            *map(str, source.protos),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise TypesError(
                told_by,
                what="protoc refuses it; imports are looked for below --grpclb-proto-path",
                advice=f"it said:\n{(ran.stderr or ran.stdout).strip()}",
            )
        return _parsed(made.read_bytes(), told_by)
