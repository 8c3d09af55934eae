"""Who set which field: server-side apply and ``metadata.managedFields``.

A set of fields is a frozenset of paths; a step of a path is a text as FieldsV1 writes it:
``f:name`` for a field, ``k:{...}`` for an item of a list with keys, ``v:...`` for an item of a set.

:source: Kubernetes documentation, "Server-Side Apply"; ``k8s.io/structured-merge-diff``, FieldsV1
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.store.deletion import timestamp
from pytest_grpclb.clusters.embedded.store.status import BadRequestError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pytest_grpclb.clusters.embedded.api.shapes import Shape
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["apply", "note_update"]

_Path = tuple[str, ...]
_Values = dict[_Path, Any]
"""Leaf fields with their values."""

_NOT_OWNED = frozenset({"apiVersion", "kind", "status"})
_METADATA_OWNED = frozenset({"annotations", "finalizers", "labels", "ownerReferences"})


def apply(
    live: Object | None,
    applied: Object,
    shape: Shape,
    *,
    manager: str,
    force: bool,
    now: datetime,
    kind: str,
) -> Object:
    """Return what server-side apply makes of an object.

    Fields that the manager applied before and left out now are taken away, unless somebody else
    has set them too.

    :param live: None: it does not exist yet
    :param kind: plural with group, for messages
    :raises ConflictError: if fields that others set would change, and it is not forced
    """
    metadata = applied.get("metadata") or {}
    if metadata.get("managedFields"):
        raise BadRequestError("metadata.managedFields must be nil")
    api_version = applied["apiVersion"]
    wanted = _values_of(applied, shape)
    managers = _read(live)
    identity = (manager, "Apply")
    before = managers.pop(identity, frozenset())
    present = _values_of(live, shape) if live is not None else {}
    changed = {path for path, value in wanted.items() if present.get(path, _ABSENT) != value}
    conflicts = [
        (other, sorted(changed & fields))
        for other, fields in managers.items()
        if changed & fields and live is not None
    ]
    if conflicts and not force:
        raise _conflict(kind, metadata.get("name", ""), conflicts, live or {})
    managers = {other: fields - changed for other, fields in managers.items()}
    merged = _merge(live or {}, applied, shape)
    held = frozenset(wanted).union(*managers.values())
    dropped = before - held
    for path in sorted(dropped, key=len, reverse=True):
        merged = _without(merged, path)
    if dropped:  # with an item of a list goes what others had set in it
        left = _values_of(merged, shape).keys()
        managers = {other: fields & left for other, fields in managers.items()}
    managers[identity] = frozenset(wanted)
    return _write(merged, live, managers, api_version, now)


def note_update(
    old: Object | None, new: Object, shape: Shape, *, manager: str, now: datetime
) -> Object:
    """Return *new* with its manager as owner of what it changed.

    :param old: None: it has just been created
    """
    before = _values_of(old, shape) if old is not None else {}
    after = _values_of(new, shape)
    changed = {path for path, value in after.items() if before.get(path, _ABSENT) != value}
    touched = changed | (before.keys() - after.keys())
    if not touched and old is not None:
        return new
    managers = {other: fields - touched for other, fields in _read(old).items()}
    identity = (manager, "Update")
    managers[identity] = (managers.get(identity, frozenset()) | changed) & after.keys()
    return _write(new, old, managers, new["apiVersion"], now)


_ABSENT = object()


def _values_of(obj: Object, shape: Shape) -> _Values:
    """Return the leaf fields of an object that can have an owner."""
    content = {key: value for key, value in obj.items() if key not in _NOT_OWNED}
    metadata = obj.get("metadata") or {}
    content["metadata"] = {
        key: value for key, value in metadata.items() if key in _METADATA_OWNED and value
    }
    return dict(_walk(content, shape, ()))


def _walk(value: Any, shape: Shape, path: _Path) -> Iterator[tuple[_Path, Any]]:
    if isinstance(value, dict) and not shape.whole:
        if path and not value and path != ("f:metadata",):
            yield path, value
        for name, inner in value.items():
            yield from _walk(inner, shape.at(name), (*path, f"f:{name}"))
    elif isinstance(value, list) and shape.keys:
        for item in value:
            here = (*path, _item_step(item, shape))
            yield here, None  # that the item is there at all
            yield from _walk(item, shape.of_items, here)
    elif isinstance(value, list) and shape.merged:
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), item
    else:
        yield path, value


def _item_step(item: Any, shape: Shape) -> str:
    keys = {}
    for name, default in shape.keys.items():
        value = item.get(name, default) if isinstance(item, dict) else None
        if value is None:
            raise BadRequestError(
                f"the list item {item!r} lacks {name!r}, by which its list is merged"
            )
        keys[name] = value
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)


# --- merging and taking away


def _merge(live: Any, applied: Any, shape: Shape) -> Any:
    if isinstance(applied, dict) and isinstance(live, dict) and not shape.whole:
        result = dict(live)
        for name, value in applied.items():
            result[name] = _merge(live.get(name), value, shape.at(name))
        return result
    if isinstance(applied, list) and isinstance(live, list) and shape.keys:
        present = {_item_step(item, shape): item for item in live}
        wanted = {_item_step(item, shape): item for item in applied}
        return [
            _merge(present.get(step), wanted[step], shape.of_items)
            if step in wanted
            else present[step]
            for step in _in_order(list(present), list(wanted))
        ]
    if isinstance(applied, list) and isinstance(live, list) and shape.merged:
        return _in_order(live, applied)
    return applied


def _in_order(live: list[str], applied: list[str]) -> list[str]:
    """Return both lists in one: *applied* in its order, what only *live* has where it stood.

    :source: ``k8s.io/structured-merge-diff``, ``typed/merge.go``, visitListItems
    """
    shared = [step for step in applied if step in live]
    order: list[str] = []
    position = 0
    for step in applied:
        while position < len(live) and live[position : position + 1] != shared[:1]:
            if live[position] not in applied:
                order.append(live[position])
            position += 1
        order.append(step)
        if [step] == shared[:1]:
            del shared[0]
    return order + [step for step in live[position:] if step not in applied]


def _without(value: Any, path: _Path) -> Any:
    """Return *value* without what a path leads to, and without mappings that this empties."""
    step, rest = path[0], path[1:]
    if isinstance(value, dict) and step.startswith("f:"):
        name = step[2:]
        if name not in value:
            return value
        result = dict(value)
        inner = _without(value[name], rest) if rest else None
        if inner is None or (inner in ({}, []) and value[name] not in ({}, [])):
            del result[name]
        else:
            result[name] = inner
        return result
    if isinstance(value, list) and step[:2] in {"k:", "v:"}:
        wanted = json.loads(step[2:])
        if step.startswith("v:"):
            return [item for item in value if item != wanted]
        kept = []
        for item in value:
            if not _is_item(item, wanted):
                kept.append(item)
            elif rest:
                kept.append(_without(item, rest))
        return kept
    return value


def _is_item(item: Any, keys: Mapping[str, Any]) -> bool:
    # A key that an item leaves out has its default, and so has the step that was written of it.
    return isinstance(item, dict) and all(
        item.get(name, value) == value for name, value in keys.items()
    )


# --- managedFields


def _read(obj: Object | None) -> dict[tuple[str, str], frozenset[_Path]]:
    entries = obj["metadata"].get("managedFields", ()) if obj is not None else ()
    return {
        (entry["manager"], entry["operation"]): frozenset(_paths(entry.get("fieldsV1", {}), ()))
        for entry in entries
    }


def _paths(tree: Mapping[str, Any], path: _Path) -> Iterator[_Path]:
    for step, inner in tree.items():
        if step == ".":
            yield path
        elif inner:
            yield from _paths(inner, (*path, step))
        else:
            yield (*path, step)


def _tree(paths: Sequence[_Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    for path in paths:  # a path that others go through is marked as one itself
        node = tree
        for step in path:
            node = node[step]
        if node:
            node["."] = {}
    return tree


def _write(
    obj: Object,
    live: Object | None,
    managers: Mapping[tuple[str, str], frozenset[_Path]],
    api_version: str,
    now: datetime,
) -> Object:
    known = {
        (entry["manager"], entry["operation"]): entry
        for entry in (live["metadata"].get("managedFields", ()) if live is not None else ())
    }
    entries = []
    for identity, paths in managers.items():
        if not paths:
            continue
        tree = _tree(sorted(paths))
        entry = known.get(identity)
        if entry is None or entry["fieldsV1"] != tree:
            entry = {
                "manager": identity[0],
                "operation": identity[1],
                "apiVersion": api_version,
                "time": timestamp(now),
                "fieldsType": "FieldsV1",
                "fieldsV1": tree,
            }
        entries.append(entry)
    entries.sort(key=lambda entry: (entry["operation"], entry["time"], entry["manager"]))
    metadata = {**obj["metadata"], "managedFields": entries}
    return {**obj, "metadata": metadata}


def _conflict(
    kind: str,
    name: str,
    conflicts: Sequence[tuple[tuple[str, str], Sequence[_Path]]],
    live: Object,
) -> ConflictError:
    versions = {
        (entry["manager"], entry["operation"]): entry["apiVersion"]
        for entry in live["metadata"]["managedFields"]
    }
    count = sum(len(paths) for _, paths in conflicts)
    causes, told = [], []
    for identity, paths in conflicts:
        by = f'conflict with "{identity[0]}" using {versions[identity]}'
        for path in paths:
            field = _dotted(path)
            told.append(f"{by}: {field}")
            causes.append({"reason": "FieldManagerConflict", "message": by, "field": field})
    plural = "conflict" if count == 1 else "conflicts"
    message = f"Apply failed with {count} {plural}: {'; '.join(told)}"
    plain, _, group = kind.partition(".")
    return ConflictError(
        message, details={"name": name, "group": group, "kind": plain, "causes": causes}
    )


def _dotted(path: _Path) -> str:
    told = ""
    for step in path:
        if step.startswith("f:"):
            told += f".{step[2:]}"
        elif step.startswith("k:"):
            keys = json.loads(step[2:])
            told += (
                "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"
            )
        else:
            told += f"[={step[2:]}]"
    return told
