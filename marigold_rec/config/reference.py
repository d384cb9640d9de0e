"""Writes docs/config.md: every setting with its type, default and description, from the fields.

python -m marigold_rec.config.reference > docs/config.md
"""

from __future__ import annotations

import json
import textwrap
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from marigold_rec.config.components import OneOf
from marigold_rec.config.schema import Config
from marigold_rec.config.section import Section

_WIDTH = 116
_HEAD = """\
# Config reference

Generated from the code by `python -m marigold_rec.config.reference > docs/config.md`; the same text is printed
by `python launch/train.py --help-config`. A setting is written in YAML or as `key.path=value` on the command line.
"""


def reference() -> str:
    """The whole page as Markdown."""
    lines: list[str] = [_HEAD]
    for name, field in Config.model_fields.items():
        lines += [f"## {name}", ""]
        lines += _field(name, field)
        lines.append("")
    return "\n".join(lines)


def _field(path: str, field: FieldInfo) -> Iterator[str]:
    """A line for a plain setting; one for each setting below it for a section."""
    kind = field.annotation
    component = next((m for m in field.metadata if isinstance(m, OneOf)), None)
    if component is not None:
        yield from _line(path, "a component, chosen by its `name`", field)
        yield from _components(path, component)
        return
    if (component := _component_inside(kind)) is not None:
        is_list = get_origin(kind) is tuple
        several = "a list of components" if is_list else "a mapping to components"
        yield from _line(path, several, field)
        yield from _components(f"{path}[]" if is_list else f"{path}.<name>", component)
        return
    sections = list(_sections(kind))
    if not sections:
        yield from _line(path, _type(kind, field), field)
        return
    item = f"{path}[]" if get_origin(_strip(kind)) is tuple else path
    if len(sections) > 1 or item != path:
        yield from _line(path, _type(kind, field), field)
    for section in sections:
        tag = _tag(section)
        if len(sections) > 1 and tag:
            yield from ["", f"### {item} with {tag}", ""]
            if section.__doc__:
                yield from [_sentence(section.__doc__), ""]
        for name, inner in section.model_fields.items():
            if f"{name}: " not in tag:
                yield from _field(f"{item}.{name}", inner)


def _components(path: str, component: OneOf) -> Iterator[str]:
    for name in component.table:
        settings = component.settings(name)
        assert settings is not None
        fields = {key: f for key, f in settings.model_fields.items() if key != "name"}
        yield f"  - `{path}.name: {name}`" + ("" if fields else ", without settings")
        for key, field in fields.items():
            yield from _line(key, _type(field.annotation, field), field, indent="    ")


def _component_inside(kind: Any) -> OneOf | None:
    """The component of the entries of a list or mapping."""
    found = [m for a in get_args(kind) for m in getattr(a, "__metadata__", ())]
    return next((m for m in found if isinstance(m, OneOf)), None)


def _line(path: str, kind: str, field: FieldInfo, indent: str = "") -> Iterator[str]:
    default = _default(field)
    text = f"- `{path}`: {kind}; {default}."
    if field.description:
        text += f" {_sentence(field.description)}"
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _sentence(text: str) -> str:
    words = " ".join(text.split())
    return words[0].upper() + words[1:] + ("" if words.endswith(".") else ".")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.default
    if value is PydanticUndefined:
        value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Section):
        return "see its own settings"
    if isinstance(value, tuple):
        value = [v.model_dump(mode="json") if isinstance(v, Section) else v for v in value]
    if isinstance(value, dict):
        value = {k: v.model_dump() if isinstance(v, Section) else v for k, v in value.items()}
    return f"default `{json.dumps(value, default=str)}`"


def _type(kind: Any, field: FieldInfo) -> str:
    text = _type_name(kind)
    limits = [
        f"{sign} {getattr(found, attribute)}"
        for found in field.metadata
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if getattr(found, attribute, None) is not None
    ]
    first, *others = text.split(" or null")
    limited = f"{first} {' and '.join(limits)}" if limits else first
    return f"{limited} or null" if others else limited


def _type_name(kind: Any) -> str:
    kind = _without_annotated(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is type(None):
        return "null"
    if origin is Literal:
        return " or ".join(f"`{json.dumps(a).strip(chr(34))}`" for a in arguments)
    if origin in (Union, types.UnionType):
        if any(list(_sections(a)) for a in arguments):
            return "a section"
        return " or ".join(dict.fromkeys(_type_name(a) for a in arguments))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is not Ellipsis:
            return f"two of {_type_name(arguments[0])}"
        return f"a list of {_plural(_type_name(arguments[0]))}"
    if origin is dict:
        return f"a mapping to {_type_name(arguments[1])}"
    if isinstance(kind, type) and issubclass(kind, Section):
        return "a section"
    names = {"str": "text", "int": "an integer", "float": "a number", "bool": "true or false"}
    found = getattr(kind, "__name__", str(kind))
    return names.get(found, f"a {found}")


def _plural(name: str) -> str:
    known = {"an integer": "integers", "a number": "numbers", "a section": "sections"}
    return known.get(name, name)


def _sections(kind: Any) -> Iterator[type[Section]]:
    kind = _without_annotated(kind)
    if isinstance(kind, type) and issubclass(kind, Section):
        yield kind
    elif get_origin(kind) in (Union, types.UnionType, tuple):
        for argument in get_args(kind):
            if argument is not Ellipsis:
                yield from _sections(argument)
    elif get_origin(kind) is dict:
        yield from _sections(get_args(kind)[1])


def _strip(kind: Any) -> Any:
    kind = _without_annotated(kind)
    if get_origin(kind) in (Union, types.UnionType):
        rest = [a for a in get_args(kind) if a is not type(None)]
        return _strip(rest[0]) if len(rest) == 1 else kind
    return kind


def _without_annotated(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _tag(section: type[Section]) -> str:
    for key in ("kind", "name"):
        field = section.model_fields.get(key)
        if field is not None and get_origin(field.annotation) is Literal:
            return f"`{key}: {get_args(field.annotation)[0]}`"
    return ""


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
