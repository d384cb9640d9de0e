"""From a YAML file and `key.path=value` overrides to a checked Config, or one error that lists all.

Defaults < YAML < overrides. The loader is a SafeLoader that refuses duplicate keys, reads `1e-4`
as a number and leaves `no`, `on` and the like as strings (YAML 1.1 does the opposite of all three).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from marigold_rec.config.checks import cross_field_problems
from marigold_rec.config.nearest import did_you_mean, names_at
from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key in seen:
                raise ConfigError(
                    f"line {line}: the key {key!r} stands twice (first on line {seen[key]}); "
                    "remove one of them"
                )
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in (_BOOL, _FLOAT)]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    "-+0123456789.",
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The checked config of a YAML file with `key.path=value` overrides on top.

    Raises ConfigError with every problem found: full path, value found, what is allowed and the
    nearest known name.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the config file can't be read ({error})") from error
    tree = _parse(text, str(file))
    if not isinstance(tree, dict):
        found = "an empty file" if tree is None else type(tree).__name__
        raise ConfigError(f"{file}: expected a mapping of sections at the top, found {found}")
    problems: list[str] = []
    for override in overrides:
        try:
            _apply_override(tree, override)
        except ConfigError as error:
            problems += error.problems
    return _validate(tree, problems)


def dump_config(config: Config) -> str:
    """The whole effective config as YAML, which `load_config` reads back to an equal Config."""
    tree = config.model_dump(mode="json")
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)


def config_hash(config: Config) -> str:
    """A stable hash (16 hex digits) of every setting."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader subclass
    except ConfigError as error:
        raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}{place}: not valid YAML here: {reason}") from error


def _apply_override(tree: dict[str, Any], override: str) -> None:
    """Sets one `key.path=value` in place; a list's entry is found by its index or its name."""
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise ConfigError(f"override {override!r}: expected key.path=value")
    here: Any = tree
    *parents, last = path.split(".")
    for part in parents:
        if isinstance(here, list):
            here = here[_entry(here, part, override)]
        elif isinstance(here, dict):
            if here.get(part) is None:
                here[part] = {}
            here = here[part]
        else:
            raise ConfigError(f"override {override!r}: {part!r} lies below a plain value")
    value = _parse(text, f"override {override!r}")
    if isinstance(here, list):
        here[_entry(here, last, override)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise ConfigError(f"override {override!r}: {last!r} lies below a plain value")


def _entry(entries: list[Any], part: str, override: str) -> int:
    names = [str(e.get("name")) for e in entries if isinstance(e, dict)]
    if part.isdigit() and int(part) < len(entries):
        return int(part)
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("name") == part:
            return index
    raise ConfigError(f"override {override!r}: no entry {part!r}; {did_you_mean(part, names)}")


def _validate(tree: dict[str, Any], problems: list[str]) -> Config:
    # Through JSON: pydantic's strict mode then takes lists for tuples and text for dates, and still
    # refuses "12" for a number or 1 for a boolean.
    text = json.dumps(tree, default=_as_json)
    try:
        config = Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(problems + [_describe(e, tree) for e in error.errors()]) from None
    problems += cross_field_problems(config)
    if problems:
        raise ConfigError(problems)
    return config


def _as_json(value: Any) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    return repr(value)


def _describe(error: ErrorDetails, tree: dict[str, Any]) -> str:
    path = error["loc"]
    where = _readable(path, tree)
    match error["type"]:
        case "extra_forbidden":
            hint = did_you_mean(str(path[-1]), names_at(path[:-1]))
            return f"{where}: unknown key; {hint}"
        case "missing":
            return f"{where}: missing; give it a value"
        case "union_tag_not_found":
            key = str((error.get("ctx") or {}).get("discriminator", "kind")).strip("'")
            return f"{where}.{key}: missing; it says which kind of entry this is"
        case "union_tag_invalid":
            context = error.get("ctx") or {}
            key = str(context.get("discriminator", "kind")).strip("'")
            known = [t.strip(" '") for t in str(context.get("expected_tags", "")).split(",")]
            found = str(context.get("tag"))
            return f"{where}.{key}: found {found!r}; {did_you_mean(found, known)}"
        case _:
            message = error["msg"].removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
            found = error["input"]
            shown = "" if isinstance(found, dict) else f" found {found!r};"
            return f"{where}:{shown} {message}"


def _readable(path: tuple[int | str, ...], tree: Any) -> str:
    """`features.user_id.rows` for ('features', 0, 'hash', 'rows'): names for indices, no tags."""
    words: list[str] = []
    here: Any = tree
    for part in path:
        if isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
            name = here.get("name") if isinstance(here, dict) else None
            words.append(str(name) if name is not None else str(part))
        elif isinstance(here, dict) and part in here:
            here = here[part]
            words.append(str(part))
        elif isinstance(here, dict) and part in (here.get("kind"), here.get("name")):
            continue  # the tag of a tagged union: pydantic adds it to the path
        else:
            here = None
            words.append(str(part))
    return ".".join(words) or "the config"
