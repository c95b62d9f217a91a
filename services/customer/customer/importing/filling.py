"""What a line says of a record that exists, brought into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crmkit.resource import Resource

from customer.importing.plan import PARENT

_JOINED = ("phones", "emails", "addresses", "aliases", "tags")


def fill(target: Resource, new: Resource, paths: Sequence[str]) -> list[str]:
    """Sets what the line says; lists are joined, what it leaves blank stays."""
    names: list[str] = []
    for name in dict.fromkeys("custom" if path.startswith("custom.") else path for path in paths):
        value = getattr(new, name, None)
        if name == PARENT or not value:
            continue
        old = getattr(target, name)
        if name in _JOINED:
            value = [*old, *(item for item in value if not _holds(old, item))]
        elif name == "custom":
            value = {**old, **value}
        if value != old:
            setattr(target, name, value)
            names.append(name)
    return names


def _holds(items: Sequence[Any], item: Any) -> bool:
    def key(one: Any) -> Any:
        return next(
            (getattr(one, name) for name in ("number", "address", "line", "text") if hasattr(one, name)), one
        )

    return any(key(one) == key(item) for one in items)
