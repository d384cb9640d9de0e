"""Pydantic's errors as one line each: full path, value found, what it must be, nearest name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from marigold_rec.config.names import NAME_PATTERN, RUN_NAME_PATTERN
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.section import Section
from marigold_rec.config.sections_at import names_at, tags_at

_Place = tuple[int | str, ...]

_SHOWN_CHARACTERS = 80
_MUST = {
    "int_type": "be an integer",
    "int_from_float": "be an integer",
    "float_type": "be a number",
    "finite_number": "be a finite number",
    "bool_type": "be true or false",
    "string_type": "be text",
    "list_type": "be a list",
    "tuple_type": "be a list",
    "dict_type": "be a mapping of keys to values",
    "model_type": "be a mapping of keys to values",
    "model_attributes_type": "be a mapping of keys to values",
    "greater_than": "be greater than {gt}",
    "greater_than_equal": "be at least {ge}",
    "less_than": "be less than {lt}",
    "less_than_equal": "be at most {le}",
    "multiple_of": "be a multiple of {multiple_of}",
    "literal_error": "be {expected}",
    "too_short": "have at least {min_length} entries",
    "too_long": "have at most {max_length} entries",
    "string_pattern_mismatch": "match the pattern {pattern}",
}
_PATTERNS = {
    NAME_PATTERN: "be letters, digits and _, and not begin with a digit",
    RUN_NAME_PATTERN: "be letters, digits, '.', '_' and '-', and begin with a letter or digit",
}


def describe_all(
    root: type[Section], errors: Sequence[ErrorDetails], tree: dict[str, Any]
) -> list[str]:
    """One line per problem in `tree`, whose validation as a `root` gave `errors`."""
    lines = [_describe(root, error, tree) for error in errors if not _is_echo(error)]
    return list(dict.fromkeys(lines))  # a union reports a value once per member


def _is_echo(error: ErrorDetails) -> bool:
    """Whether it only says that refused entries left a list too short."""
    found = error["input"]
    least = (error.get("ctx") or {}).get("min_length", 0)
    return error["type"] == "too_short" and isinstance(found, list) and len(found) >= least


def _describe(root: type[Section], error: ErrorDetails, tree: dict[str, Any]) -> str:
    path, found = error["loc"], error["input"]
    context = error.get("ctx") or {}
    match error["type"]:
        case "extra_forbidden":
            hint = did_you_mean(str(path[-1]), names_at(root, path[:-1], tree))
            return f"{_readable(path, tree)}: unknown key; {hint}"
        case "missing" if isinstance(path[-1], int):
            return _found(path[:-1], tree, found, "have 2 entries")
        case "missing":
            return f"{_readable(path, tree)}: missing; give it a value"
        case "union_tag_not_found":
            key = str(context.get("discriminator", "kind")).strip("'")
            known = ", ".join(context.get("known") or tags_at(root, path))
            return f"{_readable(path, tree)}.{key}: missing; give it one of {known}"
        case "union_tag_invalid":
            key = str(context.get("discriminator", "kind")).strip("'")
            tag = context.get("tag")
            hint = did_you_mean(str(tag), context.get("known") or tags_at(root, path))
            return f"{_readable(path, tree)}.{key}: found {tag!r}; {hint}"
        case "value_error":
            where = _readable(path, tree)
            return f"{where}: {context.get('error', error['msg'])}"
        case "json_invalid":
            reason = error["msg"]
            return f"the config: is nested too deeply or holds text that is not Unicode ({reason})"
        case kind if kind.startswith("datetime"):
            return _found(path, tree, found, "be a day or moment, YYYY-MM-DD[THH:MM:SS[Z]]")
        case kind if kind.startswith("date"):
            return _found(path, tree, found, "be a day, YYYY-MM-DD")
        case kind if path and path[-1] in ("str", "int"):
            return _found(path[:-1], tree, found, "be text or an integer")
        case kind:
            must = _PATTERNS.get(context.get("pattern", ""), _MUST.get(kind, ""))
            text = must.format_map(_rounded(context)) if must else f"be otherwise: {error['msg']}"
            if kind == "string_type" and isinstance(found, int | float):
                text += ": put it into quotes"
            return _found(path, tree, found, text)


def _rounded(context: dict[str, Any]) -> dict[str, Any]:
    """Limits of numbers without a needless `.0`."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in context.items()
    }


def _found(path: _Place, tree: dict[str, Any], found: Any, must: str) -> str:
    return f"{_readable(path, tree)}: found {_shown(found)}; it must {must}"


def _shown(value: Any) -> str:
    """As a user would write it in YAML, more or less, and not too long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    text = f"[{', '.join(map(_shown, value))}]" if isinstance(value, list) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 4] + " ..."


def _readable(path: _Place, tree: Any) -> str:
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
