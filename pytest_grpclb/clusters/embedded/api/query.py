"""The query part of a URL, by type."""

from __future__ import annotations

from urllib.parse import parse_qsl

from pytest_grpclb.clusters.embedded.store.status import BadRequestError

__all__ = ["Query"]


class Query:
    """The parameters of one request; of those given twice the last."""

    def __init__(self, text: str) -> None:
        self._values = dict(parse_qsl(text, keep_blank_values=True))

    def text(self, name: str) -> str:
        """Return a parameter, empty if it is not given."""
        return self._values.get(name, "")

    def flag(self, name: str) -> bool:
        """Return a parameter that is true or false.

        :raises BadRequestError: if it is neither
        """
        value = self.text(name)
        if value.lower() in {"", "0", "f", "false"}:
            return False
        if value.lower() in {"1", "t", "true"}:
            return True
        raise BadRequestError(f"{name}={value!r} in the query must be true or false")

    def whole(self, name: str) -> int | None:
        """Return a parameter that is a whole number from 0 up, None if it is not given.

        :raises BadRequestError: if it is something else
        """
        value = self.text(name)
        if not value:
            return None
        if not (value.isascii() and value.isdecimal()):
            raise BadRequestError(f"{name}={value!r} in the query must be a whole number from 0 up")
        return int(value)
