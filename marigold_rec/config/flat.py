"""A config tree's settings by their dotted path, for comparing two of them."""

from __future__ import annotations

from collections.abc import Mapping


def flat_settings(tree: object, prefix: str = "") -> dict[str, object]:
    """Leaves by dotted path; a list's entries by their name where they have one.

    A list's names are a leaf too: heads, dense inputs and task weights follow their order.
    """
    flat: dict[str, object] = {}
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple) and any(isinstance(entry, Mapping) for entry in tree):
        items = [(_entry_name(entry, i), entry) for i, entry in enumerate(tree)]
        flat[prefix] = [name for name, _ in items]
    else:
        return {prefix: list(tree) if isinstance(tree, tuple) else tree}
    for key, value in items:
        flat |= flat_settings(value, f"{prefix}.{key}" if prefix else key)
    return flat


def _entry_name(entry: object, index: int) -> str:
    return str(entry.get("name", index)) if isinstance(entry, Mapping) else str(index)
