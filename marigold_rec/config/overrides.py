"""`key.path=value` from the command line, put into the tree that was read from YAML."""

from __future__ import annotations

from typing import Any

from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.yaml_text import parse_yaml
from marigold_rec.errors import ConfigError


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Sets one `key.path=value` in place; a list's entry is found by its index or its name.

    Raises ConfigError when it is no such text or its path leads nowhere. Keys that are missing on
    the way are made: whether they are known is for the config's own check to say.
    """
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise ConfigError(f"override {override!r}: expected key.path=value")
    value = parse_yaml(text, f"override {override!r}")
    here: Any = tree
    *parents, last = path.split(".")
    for depth, part in enumerate(parents):
        if isinstance(here, list):
            here = here[_entry(here, part, override)]
            continue
        _require_mapping(here, parents[:depth], override)
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
    if isinstance(here, list):
        here[_entry(here, last, override)] = value
        return
    _require_mapping(here, parents, override)
    here[last] = value


def _require_mapping(here: Any, path: list[str], override: str) -> None:
    if not isinstance(here, dict):
        raise ConfigError(
            f"override {override!r}: {'.'.join(path)} is a plain value ({here!r}); "
            "nothing lies below it"
        )


def _entry(entries: list[Any], part: str, override: str) -> int:
    if part.isdecimal() and int(part) < len(entries):
        return int(part)
    names = [str(e.get("name")) for e in entries if isinstance(e, dict)]
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("name") == part:
            return index
    raise ConfigError(f"override {override!r}: no entry {part!r}; {did_you_mean(part, names)}")
