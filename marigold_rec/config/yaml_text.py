"""YAML text <-> plain values, without YAML 1.1's traps.

The loader is a SafeLoader that refuses duplicate keys, reads `1e-4` as a number, and leaves `no`,
`010`, `1:30` and dates as the strings that they look like (YAML 1.1 reads False, 8, 90 and a date).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from marigold_rec.errors import ConfigError

_TAG = "tag:yaml.org,2002:"
_RULES = {
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$", "-+0123456789"),
    "float": (
        r"^(?:[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
}
MAX_CHARACTERS = 2_000_000
_MAX_VALUES = 200_000
"""Of a document whose aliases are written out, unless it is as large without them."""
_CHARACTERS_A_VALUE = 64
_REPLACED = {_TAG + name for name in (*_RULES, "timestamp")}


class _Loader(yaml.SafeLoader):
    def get_single_node(self) -> yaml.Node | None:
        # Before values are made: `<<` copies what it merges, so that nine lines of it never end.
        node = super().get_single_node()
        if node is not None:
            _require_bounded(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not when values are made: by then `<<` has mixed other mappings' keys in.
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"line {line}: a key must be plain text, not a list or a mapping")
            key = (key_node.tag, key_node.value)
            if key in seen:
                raise ConfigError(
                    f"line {line}: the key {key_node.value!r} stands twice (first on line "
                    f"{seen[key]}); remove one of them"
                )
            seen[key] = line
        return node


def _require_bounded(root: yaml.Node) -> None:
    """Raises ConfigError where aliases of aliases make a huge document of a small one."""
    own: dict[int, int] = {}
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        """In values, a long text as several."""
        if id(node) not in sizes:
            is_text = isinstance(node, yaml.ScalarNode)
            own[id(node)] = 1 + (len(node.value) // _CHARACTERS_A_VALUE if is_text else 0)
            sizes[id(node)] = own[id(node)]  # for an alias within its own anchor: refused elsewhere
            sizes[id(node)] += sum(map(size, _children(node)))
        return sizes[id(node)]

    whole = size(root)
    if whole > max(_MAX_VALUES, 10 * sum(own.values())):
        raise ConfigError(
            f"line {root.start_mark.line + 1}: with every *alias written out this holds {whole:,} "
            f"values, allowed are {_MAX_VALUES:,}; write it without aliases of aliases"
        )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


class _Dumper(yaml.SafeDumper):
    """Quotes what either our loader or any other would not read as a string."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # In its other styles PyYAML writes these line breaks bare, and reads them back as spaces.
        style = '"' if any(c in text for c in "\x85\u2028\u2029") else None
        return self.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)

_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in _REPLACED]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _RULES.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; no more of a huge file is read than tells that it is one.

    Raises ConfigError, which calls the file `what`.
    """
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the {what} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the {what} is not UTF-8 text ({error})") from error
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        kind = "a list" if isinstance(tree, list) else "a plain value"
        found = "an empty file" if tree is None else kind
        raise ConfigError(f"{path}: expected a mapping at the top, found {found}")
    return tree


def parse_yaml(text: str, where: str) -> Any:
    """The value of one YAML document. Raises ConfigError that begins with `where`."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"{where}: {len(text):,} characters, allowed are {MAX_CHARACTERS:,}: this is no config"
        )
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader subclass
    except ConfigError as error:
        raise ConfigError([f"{where}, {problem}" for problem in error.problems]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}{place}: not valid YAML here: {reason}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: lists and mappings are nested too deeply") from error
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        # PyYAML's own way to refuse `!!int abc` and the like.
        raise ConfigError(f"{where}: a value does not fit its !!tag ({error})") from error


def dump_yaml(tree: Any) -> str:
    """Block style, keys in the order given; `parse_yaml` gives `tree` back."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
