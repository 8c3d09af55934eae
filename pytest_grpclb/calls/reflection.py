"""The types of a service as the server itself tells them (server reflection, v1 and v1alpha)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf import descriptor_pb2

from pytest_grpclb._pb import reflection_pb2 as pb
from pytest_grpclb.calls.names import near, split_name
from pytest_grpclb.calls.types import Types, missing_imports
from pytest_grpclb.errors import CallError, TypesError
from pytest_grpclb.settings import STATUS_NAMES

__all__ = ["Exchange", "listed_services", "reflected"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

Exchange = Callable[[str, Sequence[bytes]], tuple[list[bytes], int, str]]
"""Sends each request on a stream; returns the answers, the last one's status code, its details."""

_METHODS = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)
_UNIMPLEMENTED = 12
_NOT_FOUND = 5
_ROUNDS = 100
"""Files that import files that import files: nobody's are nested so deep."""
_TOLD_BY = "server reflection"
_ADVICE = (
    "enable server reflection in the service, or set --grpclb-protos or --grpclb-descriptor-set"
)

_SILENCE = frozenset({"DEADLINE_EXCEEDED", "UNAVAILABLE"})
_UNREACHED = (
    "the service was not reached: say where its pods listen with --grpclb-service-port, and "
    "what they speak TLS with by --grpclb-tls-ca and --grpclb-tls-name"
)


def reflected(method: str, exchange: Exchange) -> Types:
    """Return the types of a method's service, asked of the server.

    :raises CallError: if the server has no such service, listing what is like it
    :raises TypesError: if it has no reflection, or does not answer
    """
    service, _ = split_name(method)
    version, [answer] = _ask(exchange, [pb.Request(file_containing_symbol=service)])
    if answer.WhichOneof("message_response") == "error_response":
        _, [listed] = _ask(exchange, [pb.Request(list_services="")], versions=(version,))
        names = [each.name for each in listed.list_services_response.service]
        if service in names or answer.error_response.error_code != _NOT_FOUND:
            raise TypesError(
                _TOLD_BY,
                what=f"the server does not tell the types of {service!r}: "
                f"{answer.error_response.error_message or answer.error_response.error_code}",
                advice=_ADVICE,
            )
        raise CallError(
            method,
            what=f"{_TOLD_BY} knows no service {service!r}",
            advice=near(service, names),
        )
    files = _files(answer)
    for _ in range(_ROUNDS):
        missing = missing_imports(files.values())
        if not missing:
            break
        wanted = [pb.Request(file_by_filename=name) for name in missing]
        _, answers = _ask(exchange, wanted, versions=(version,))
        more = {name: file for each in answers for name, file in _files(each).items()}
        if not more.keys() - files.keys():
            break  # Types says what is missing
        files |= more
    return Types(files.values(), told_by=_TOLD_BY)


def listed_services(exchange: Exchange, *, version: str = "") -> tuple[str, tuple[str, ...]]:
    """Return the names of the services that a server lists, after the version that it was asked by.

    :param version: the one that it is known to have; empty: each is tried
    :raises TypesError: if it has no reflection, or does not answer
    """
    versions = (version,) if version else _METHODS
    asked, [answer] = _ask(exchange, [pb.Request(list_services="")], versions=versions)
    return asked, tuple(each.name for each in answer.list_services_response.service)


def _files(answer: pb.Response) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    files = (
        descriptor_pb2.FileDescriptorProto.FromString(each)
        for each in answer.file_descriptor_response.file_descriptor_proto
    )
    return {each.name: each for each in files}


def _ask(
    exchange: Exchange, requests: Sequence[pb.Request], *, versions: Sequence[str] = _METHODS
) -> tuple[str, list[pb.Response]]:
    """Return the version that the server has, and an answer for each request."""
    encoded = [each.SerializeToString() for each in requests]
    for version in versions:
        answers, status, details = exchange(version, encoded)
        if len(answers) == len(requests):
            return version, [pb.Response.FromString(each) for each in answers]
        if status != _UNIMPLEMENTED:
            name = STATUS_NAMES[status]
            raise TypesError(
                _TOLD_BY,
                what=f"{version} ended with {name}: {details or 'no details'}",
                advice=_UNREACHED if name in _SILENCE else _ADVICE,
            )
    raise TypesError(_TOLD_BY, what="the service does not have it", advice=_ADVICE)
