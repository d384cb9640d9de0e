"""Finds which names may stand at a path of the config tree."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from marigold_rec.config.components import OneOf
from marigold_rec.config.section import Section


def names_at(root: type[Section], path: tuple[int | str, ...], tree: Any) -> list[str]:
    """Names of the fields of the section at a pydantic error's path, [] if there is none. `tree`:
    what was validated, whose names say which component's settings stand at a place."""
    here: Any = root
    value = tree
    for part in path:
        here = _child(here, part)
        # A union's tag is part of the path, but of no tree.
        if isinstance(value, Mapping):
            value = value.get(part, value)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        component = next((m for m in _metadata(here) if isinstance(m, OneOf)), None)
        if component is not None and isinstance(value, Mapping):
            here = component.settings(value.get(component.key))
    here = _strip(here)
    return list(here.model_fields) if _is_section(here) else []


def tags_at(root: type[Section], path: tuple[int | str, ...]) -> list[str]:
    """Tags of the tagged union at a pydantic error's path, [] if there is none."""
    here: Any = root
    for part in path:
        here = _child(here, part)
    return [str(tag) for member in _members(_strip(here)) for tag in _tags(member)]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _strip(kind: Any) -> Any:
    """Without Annotated and without `| None`."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
            continue
        if get_origin(kind) in (Union, types.UnionType):
            rest = [arg for arg in get_args(kind) if arg is not type(None)]
            if len(rest) == 1:
                kind = rest[0]
                continue
        return kind


def _child(kind: Any, part: int | str) -> Any:
    kind = _strip(kind)
    if _is_section(kind):
        field = kind.model_fields.get(str(part))
        if field is None:
            return None
        # Without its metadata a field's annotation does not say which component it holds.
        for metadata in field.metadata:
            if isinstance(metadata, OneOf):
                return Annotated[field.annotation, metadata]
        return field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        return next((m for m in _members(kind) if part in _tags(m)), None)
    if get_origin(kind) is tuple and isinstance(part, int):
        return get_args(kind)[0]
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    return None


def _metadata(kind: Any) -> tuple[Any, ...]:
    return get_args(kind)[1:] if get_origin(kind) is Annotated else ()


def _members(union: Any) -> list[Any]:
    members: list[Any] = []
    for arg in map(_strip, get_args(union)):
        nested = get_origin(arg) in (Union, types.UnionType)
        members += _members(arg) if nested else [arg]
    return members


def _tags(section: Any) -> tuple[Any, ...]:
    """The tags by which a section stands in a tagged union: its Literal `kind` or `name`."""
    if not _is_section(section):
        return ()
    return tuple(
        value
        for key in ("kind", "name")
        if (field := section.model_fields.get(key)) is not None
        and get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
    )
