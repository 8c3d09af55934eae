"""What a PATCH request makes of an object: JSON patch, merge patch, strategic merge patch.

Objects are not changed in place: a result shares with the original what the patch left alone.

:source: RFC 6902 (JSON patch); RFC 7396 (merge patch); Kubernetes community repository,
    ``contributors/devel/sig-api-machinery/strategic-merge-patch.md``
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.store.status import BadRequestError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_grpclb.clusters.embedded.api.shapes import Shape

__all__ = ["json_patch", "merge_patch", "strategic_merge_patch"]

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_TAKE_AWAY = "$deleteFromPrimitiveList/"


def merge_patch(original: Any, patch: Any) -> Any:
    """Return *original* with a JSON merge patch applied: null takes away, lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    result = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


# --- JSON patch


def json_patch(original: Any, operations: Any) -> Any:
    """Return *original* with a JSON patch applied, all of it or nothing.

    :raises BadRequestError: if an operation cannot be read
    :raises InvalidError: if it does not fit the object, or a test fails
    """
    if not isinstance(operations, list):
        raise BadRequestError(f"a JSON patch is a list of operations, not {operations!r}")
    document = [copy.deepcopy(original)]  # in a list, so that the path "" has a parent too
    for operation in operations:
        try:
            _OPERATIONS[operation["op"]](document, operation)
        except (LookupError, TypeError, ValueError) as error:
            why = f"the JSON patch operation {operation!r} cannot be applied: {error}"
            if isinstance(operation, dict) and operation.get("op") in _OPERATIONS:
                raise InvalidError(
                    why, details={"causes": [{"field": str(operation.get("path"))}]}
                ) from None
            raise BadRequestError(
                f"{why}; operations are {', '.join(_OPERATIONS)}, each with op and path"
            ) from None
    return document[0]


def _locate(document: list[Any], pointer: str) -> tuple[Any, Any]:
    """Return what holds the value that a JSON pointer leads to, and under which key or index."""
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"the path {pointer!r} does not begin with /")
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    parent: Any = document
    key: Any = 0
    for part in parts:
        parent = parent[key]
        key = _index(parent, part) if isinstance(parent, list) else part
    return parent, key


def _index(items: Sequence[Any], part: str) -> int:
    if part == "-":
        return len(items)
    if not part.isdecimal():
        raise ValueError(f"{part!r} is not an index of a list")
    return int(part)


def _value_at(document: list[Any], pointer: str) -> Any:
    parent, key = _locate(document, pointer)
    return parent[key]


def _put(document: list[Any], pointer: str, value: Any) -> None:
    parent, key = _locate(document, pointer)
    if isinstance(parent, list) and parent is not document:
        if key > len(parent):
            raise IndexError(f"the list has {len(parent)} items, the index is {key}")
        parent.insert(key, value)
    else:
        parent[key] = value


def _add(document: list[Any], operation: Mapping[str, Any]) -> None:
    _put(document, operation["path"], operation["value"])


def _remove(document: list[Any], operation: Mapping[str, Any]) -> None:
    parent, key = _locate(document, operation["path"])
    del parent[key]


def _replace(document: list[Any], operation: Mapping[str, Any]) -> None:
    parent, key = _locate(document, operation["path"])
    parent[key]  # a value that is not there cannot be replaced
    parent[key] = operation["value"]


def _move(document: list[Any], operation: Mapping[str, Any]) -> None:
    value = _value_at(document, operation["from"])
    _remove(document, {"path": operation["from"]})
    _put(document, operation["path"], value)


def _copy(document: list[Any], operation: Mapping[str, Any]) -> None:
    value = copy.deepcopy(_value_at(document, operation["from"]))
    _put(document, operation["path"], value)


def _test(document: list[Any], operation: Mapping[str, Any]) -> None:
    found = _value_at(document, operation["path"])
    if found != operation["value"]:
        raise ValueError(f"the test failed, the value is {found!r}")


_OPERATIONS: Mapping[str, Callable[[list[Any], Mapping[str, Any]], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


# --- strategic merge patch


def strategic_merge_patch(original: Any, patch: Any, shape: Shape) -> Any:
    """Return *original* with a strategic merge patch applied: lists with keys merge item by item.

    :raises BadRequestError: if a directive is unknown, or an item lacks its list's key
    """
    if not isinstance(patch, dict):
        raise BadRequestError(f"a strategic merge patch is an object, not {patch!r}")
    return _merge(original, patch, shape)


def _merge(original: Mapping[str, Any], patch: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE, "merge")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive != "merge":
        raise BadRequestError(
            f"unknown directive {_DIRECTIVE}: {directive!r}; use merge, replace or delete"
        )
    retained = patch.get(_RETAIN, original)
    result = {key: value for key, value in original.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_value(result.get(key), value, shape.at(key))
    _follow_list_directives(result, original, patch, shape)
    return result


def _follow_list_directives(
    result: dict[str, Any], original: Mapping[str, Any], patch: Mapping[str, Any], shape: Shape
) -> None:
    """Do what a patch says of lists beside their items: what to take away, how to order."""
    for key, value in patch.items():
        name = key.removeprefix(_TAKE_AWAY)
        if name != key and name in result:
            result[name] = [item for item in result[name] if item not in value]
    for name in {key.removeprefix(_ORDER) for key in patch}:
        inner = shape.at(name)
        if name in result and (inner.key or inner.merged):
            # Unless the patch says in which order the list is to be, its own items come in theirs.
            order = patch.get(_ORDER + name, patch.get(name)) or []
            result[name] = _ordered(result[name], order, original.get(name) or [], inner.key)


def _merge_value(original: Any, patch: Any, shape: Shape) -> Any:
    if isinstance(patch, dict):
        return _merge(original if isinstance(original, dict) else {}, patch, shape)
    if isinstance(patch, list):
        return _merge_list(original if isinstance(original, list) else [], patch, shape)
    return patch


def _merge_list(original: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    if shape.merged:
        return original + [item for item in patch if item not in original]
    if not shape.key:
        return patch
    plain = [item for item in patch if item != {_DIRECTIVE: "replace"}]
    result = original if len(plain) == len(patch) else []
    for item in plain:
        result = _merge_item(result, item, shape)
    return result


def _merge_item(items: list[Any], item: Any, shape: Shape) -> list[Any]:
    if not isinstance(item, dict) or shape.key not in item:
        raise BadRequestError(f"map: {item!r} does not contain declared merge key: {shape.key}")
    wanted = item[shape.key]
    if item.get(_DIRECTIVE) == "delete":
        return [present for present in items if present.get(shape.key) != wanted]
    for index, present in enumerate(items):
        if present.get(shape.key) == wanted:
            merged = _merge(present, item, shape.of_items)
            return [*items[:index], merged, *items[index + 1 :]]
    return [*items, _merge({}, item, shape.of_items)]


def _ordered(items: list[Any], order: list[Any], before: list[Any], key: str) -> list[Any]:
    """Return *items* in the order that the client asked for, the items that it does not know of
    staying where they stood among the others.

    :param before: the list as it was
    """

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = {_hashable(name(entry)): index for index, entry in enumerate(order)}
    stood = {_hashable(name(item)): index for index, item in enumerate(before)}
    known = [item for item in items if _hashable(name(item)) in wanted]
    known.sort(key=lambda item: wanted[_hashable(name(item))])
    others = [item for item in items if _hashable(name(item)) not in wanted]
    result = []
    for item in known:
        place = stood.get(_hashable(name(item)))
        while place is not None and others:
            other_place = stood.get(_hashable(name(others[0])))
            if other_place is None or other_place > place:
                break
            result.append(others.pop(0))
        result.append(item)
    return result + others


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else repr(value)
