"""Dotted keys ("training.epochs") of nested mappings and specifications: reading, setting, merging, capping."""

import copy
from typing import Any, TypeVar

from memorization.configuration import validate
from memorization.errors import UserError
from memorization.spec_base import Strict

S = TypeVar("S", bound=Strict)


def has_key(model: Any, dotted: str) -> bool:
    """Whether a specification of class `model` may hold dotted "a.b"."""
    for part in dotted.split("."):
        nested = [a for a in (model, *getattr(model, "__args__", ())) if isinstance(a, type) and issubclass(a, Strict)]
        if not nested or part not in nested[0].model_fields:
            return False
        model = nested[0].model_fields[part].annotation
    return True


def merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """`low` updated by `high`, nested mappings merged key by key."""
    merged = copy.deepcopy(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def set_dotted(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """tree["a"]["b"] = value for dotted "a.b"."""
    *path, last = dotted.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[last] = value


def get_dotted(tree: dict[str, Any], dotted: str) -> Any:
    """tree["a"]["b"] for dotted "a.b"."""
    for part in dotted.split("."):
        tree = tree[part]
    return tree


def shrink(spec: S, caps: dict[str, float | int], where: str) -> S:
    """`spec` with every capped number no larger than its cap, in all entries of lists; unset (null) ones stay unset."""
    tree = spec.model_dump()
    for dotted, cap in caps.items():
        try:
            _cap(tree, dotted.split("."), cap)
        except KeyError:
            raise UserError(f"{where}: cap on unknown key {dotted!r} (here or in config/scales/)") from None
    return validate(type(spec), tree, where)


def _cap(tree: Any, path: list[str], cap: float | int) -> None:
    """Cap one key below `tree`; what is unset, or inside a part that the specification leaves out, stays as it is."""
    if isinstance(tree, (list, tuple)):
        for entry in tree:
            _cap(entry, path, cap)
    elif tree is None:
        return
    elif len(path) > 1:
        _cap(tree[path[0]], path[1:], cap)
    else:
        tree[path[0]] = _capped(tree[path[0]], cap)


def _capped(value: Any, cap: float | int) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_capped(entry, cap) for entry in value)
    return type(value)(cap) if value is not None and value > cap else value
