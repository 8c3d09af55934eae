"""The forms that requests come in and answers go out in: JSON, and to read also YAML and protobuf.

:source: Kubernetes documentation, "API concepts", "Alternate representations of resources"
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pytest_grpclb.clusters.embedded.api.protobuf import PROTOBUF, parse_protobuf
from pytest_grpclb.clusters.embedded.store.status import (
    BadRequestError,
    NotAcceptableError,
    UnsupportedMediaTypeError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AGGREGATED_DISCOVERY", "Form", "encode", "form_of_answer", "media_type", "parse"]

Form = Literal["json", "table", "discovery"]
AGGREGATED_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_YAML = frozenset({"application/yaml", "application/apply-patch+yaml"})
_FORMS: Mapping[tuple[str, str, str], Form] = {
    ("Table", "meta.k8s.io", "v1"): "table",
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"): "discovery",
}
_ANY_JSON = frozenset({"application/json", "application/*", "*/*"})


def encode(value: Any) -> bytes:
    """Write a JSON value."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def media_type(content_type: str) -> str:
    """Return a Content-Type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def form_of_answer(accept: str, offered: tuple[Form, ...] = ("json",)) -> Form:
    """Return the form to answer in: the first of those that the client accepts.

    :raises NotAcceptableError: if it accepts none of those offered
    """
    for part in accept.split(",") if accept.strip() else ("*/*",):
        kind, *pairs = (piece.strip() for piece in part.split(";"))
        if kind.lower() not in _ANY_JSON:
            continue
        parameters = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if "as" not in parameters:
            return "json"
        key = (parameters["as"], parameters.get("g", ""), parameters.get("v", ""))
        form = _FORMS.get(key)
        if form in offered and form is not None:
            return form
    raise NotAcceptableError(
        "only the following media types are accepted: application/json; "
        f"the client accepts {accept!r}"
    )


def parse(content_type: str, body: bytes) -> Any:
    """Read the body of a request.

    :raises UnsupportedMediaTypeError: if it is in none of the forms that are read
    :raises BadRequestError: if it cannot be read as what it says it is
    """
    kind = media_type(content_type) or "application/json"
    if kind == PROTOBUF:
        return parse_protobuf(body)
    if not (kind in _YAML or kind == "application/json" or kind.endswith("+json")):
        raise UnsupportedMediaTypeError(
            f"the embedded cluster reads application/json, application/yaml and {PROTOBUF}, "
            f"not {kind!r}; use --grpclb-cluster=kind for clients that send nothing else"
        )
    try:
        return json.loads(body)
    except ValueError as error:
        if kind not in _YAML:
            raise BadRequestError(f"the body of the request is not JSON: {error}") from None
    return _parse_yaml(body)


def _parse_yaml(body: bytes) -> Any:
    import yaml  # takes longer to import than most clusters send YAML for: clients write JSON

    class Loader(yaml.SafeLoader):
        """Leaves times as the text that they are in JSON."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(body, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise BadRequestError(f"the body of the request is not YAML: {error}") from None
