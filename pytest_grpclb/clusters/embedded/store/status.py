"""The errors of the Kubernetes API, each with the Status object that a client is told.

:source: Kubernetes API conventions, "Response Status Kind"; apimachinery, ``pkg/api/errors``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "AlreadyExistsError",
    "BadRequestError",
    "Cause",
    "ConflictError",
    "ForbiddenError",
    "GoneError",
    "InvalidError",
    "MethodNotAllowedError",
    "NotAcceptableError",
    "NotFoundError",
    "StatusError",
    "TooLargeError",
    "UnauthorizedError",
    "UnsupportedMediaTypeError",
    "success",
]


class StatusError(GrpclbError):
    """A request that the API refuses; carries what its Status object says."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message, self.details = message, dict(details or {})

    def status(self) -> dict[str, Any]:
        """Return the Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


class BadRequestError(StatusError):
    """The request does not make sense."""

    code, reason = 400, "BadRequest"


class UnauthorizedError(StatusError):
    """The request carries no token that this cluster gave out."""

    code, reason = 401, "Unauthorized"


class ForbiddenError(StatusError):
    """The request is understood and refused for what it would do."""

    code, reason = 403, "Forbidden"


class NotFoundError(StatusError):
    """There is no such object, or no such path."""

    code, reason = 404, "NotFound"

    @classmethod
    def of(cls, kind: str, name: str) -> NotFoundError:
        """Return the error for a missing object.

        :param kind: plural with group, as ``deployments.apps``
        """
        return cls(f'{kind} "{name}" not found', details=_details(kind, name))


class MethodNotAllowedError(StatusError):
    """The path is known, the verb is not for it."""

    code, reason = 405, "MethodNotAllowed"


class NotAcceptableError(StatusError):
    """The client accepts no form that this API can answer in."""

    code, reason = 406, "NotAcceptable"


class AlreadyExistsError(StatusError):
    """An object of that name is there already."""

    code, reason = 409, "AlreadyExists"

    @classmethod
    def of(cls, kind: str, name: str) -> AlreadyExistsError:
        """Return the error for a name that is taken."""
        return cls(f'{kind} "{name}" already exists', details=_details(kind, name))


class ConflictError(StatusError):
    """The object changed since the client read it, or is not the one that it meant."""

    code, reason = 409, "Conflict"

    @classmethod
    def of(cls, kind: str, name: str, why: str = "") -> ConflictError:
        """Return the error for a write that a newer state, or a precondition, forbids."""
        why = why or (
            "the object has been modified; please apply your changes to the latest version and "
            "try again"
        )
        return cls(
            f'Operation cannot be fulfilled on {kind} "{name}": {why}',
            details=_details(kind, name),
        )


class GoneError(StatusError):
    """The history that a watch asked for is no longer kept: list again."""

    code, reason = 410, "Expired"


class TooLargeError(StatusError):
    """The body is longer than the API reads."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaTypeError(StatusError):
    """The body is in a form that this API does not read."""

    code, reason = 415, "UnsupportedMediaType"


@dataclass(frozen=True, slots=True)
class Cause:
    """One field of an object that is not as it must be."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class InvalidError(StatusError):
    """An object has fields that are not as they must be."""

    code, reason = 422, "Invalid"

    @classmethod
    def of(cls, kind: str, group: str, name: str, causes: Sequence[Cause]) -> InvalidError:
        """Return the error that names every bad field.

        :param kind: as in the object, ``Deployment``
        """
        told = [f"{cause.field}: {cause.message}" for cause in causes]
        listed = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
        qualified = f"{kind}.{group}" if group else kind
        details = {"name": name, "kind": kind} | ({"group": group} if group else {})
        details["causes"] = _causes(causes)
        return cls(f'{qualified} "{name}" is invalid: {listed}', details=details)


def success(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Return the Status of an object that was deleted."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": _details(kind, name) | {"uid": uid},
    }


def _details(kind: str, name: str) -> dict[str, Any]:
    plural, _, group = kind.partition(".")
    return {"name": name, "kind": plural} | ({"group": group} if group else {})


def _causes(causes: Iterable[Cause]) -> Any:
    return [
        {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
    ]
