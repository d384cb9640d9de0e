"""YAML without YAML 1.1's traps: what is read, what is refused, what is written."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from marigold_rec.config.yaml_text import dump_yaml, parse_yaml
from marigold_rec.errors import ConfigError

VALUES = [
    # Numbers, as everyone but YAML 1.1 reads them.
    ("1e-4", 1e-4),
    ("1E5", 1e5),
    ("+1.5e+3", 1.5e3),
    ("-.5", -0.5),
    (".5e1", 5.0),
    ("2.", 2.0),
    ("50_000", 50_000),
    ("-3", -3),
    ("0x1F", 31),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    # Words, which YAML 1.1 takes for something else.
    ("no", "no"),
    ("Yes", "Yes"),
    ("on", "on"),
    ("y", "y"),
    ("010", "010"),
    ("08", "08"),
    ("1:30", "1:30"),
    ("12:30:45.5", "12:30:45.5"),
    ("2024-01-05", "2024-01-05"),
    ("2024-02-30", "2024-02-30"),
    ("1.2.3", "1.2.3"),
    ("e5", "e5"),
    ("1e", "1e"),
    ("nan", "nan"),
    ('"1e-4"', "1e-4"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_plain_values(text: str, expected: Any):
    found = parse_yaml(text, "here")
    assert found == expected
    assert type(found) is type(expected)


def test_not_a_number():
    assert math.isnan(parse_yaml(".nan", "here"))


def test_anchors_and_merged_keys():
    text = """
deep: {inner: {b: &b {<<: &a {x: 1, y: 1}, x: 2}}}
c: {<<: *b, y: 3}
d: {<<: [*a, *b], z: 4}
"""
    assert parse_yaml(text, "here") == {
        "deep": {"inner": {"b": {"x": 2, "y": 1}}},
        "c": {"x": 2, "y": 3},
        "d": {"x": 1, "y": 1, "z": 4},
    }


REFUSED = [
    ("a: 1\nb: 2\n'a': 3", "here, line 3: the key 'a' stands twice (first on line 1); "),
    ("x: {y: [{z: 1, z: 1}]}", "here, line 1: the key 'z' stands twice (first on line 1); "),
    ("{<<: {a: 1}, <<: {b: 1}}", "here, line 1: the key '<<' stands twice"),
    ("? [a, b]\n: 1", "here, line 1: a key must be plain text, not a list or a mapping"),
    ("? {a: b}\n: 1", "here, line 1: a key must be plain text, not a list or a mapping"),
    ("x: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
    ("x: !!python/name:os.system", "could not determine a constructor for the tag"),
    ("x: !!python/tuple [1]", "could not determine a constructor for the tag"),
    ("x: !thing 1", "could not determine a constructor for the tag '!thing'"),
    ("x: !!int abc", "here: a value does not fit its !!tag"),
    ("x: !!timestamp abc", "here: a value does not fit its !!tag"),
    ("x: !!bool maybe", "here: a value does not fit its !!tag"),
    ("x: *a", "here, line 1: not valid YAML here: found undefined alias 'a'"),
    ("--- 1\n--- 2", "here, line 2: not valid YAML here: but found another document"),
    ("[" * 5000, "here: lists and mappings are nested too deeply"),
    ("a: 'b", "here, line 1: not valid YAML here: found unexpected end of stream"),
    ("a: \x00", "here: not valid YAML here"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refusals(text: str, message: str):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "here")
    assert str(caught.value).startswith("here")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.text(alphabet="ab:[]{},#&*!|>'\"%@`-?~<=\n\t 01.e_\\", max_size=30))
def test_any_text_is_read_or_refused(text: str):
    """Never an error of PyYAML's own."""
    said = "here"
    try:
        parse_yaml(text, "here")
    except ConfigError as error:
        said = str(error)
    assert said.startswith("here")


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from([text for text, _ in VALUES] + ["=", "<<", "1e5", "0b1", "a: b", "- a"])
)
_TREES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(_TREES)
def test_what_is_written_is_read_back(tree: Any):
    assert parse_yaml(dump_yaml(tree), "here") == tree


@given(st.sampled_from([expected for _, expected in VALUES if isinstance(expected, str)]))
def test_other_loaders_read_the_same_strings(text: str):
    assert yaml.safe_load(dump_yaml([text])) == [text]


def bomb(line: str, first: str) -> str:
    """Nine lines, each of nine aliases of the one before."""
    names = "abcdefghi"
    return f"a: &a {first}\n" + "\n".join(
        f"{here}: &{here} " + line.format(", ".join([f"*{before}"] * 9))
        for before, here in pairwise(names)
    )


@pytest.mark.parametrize(
    "text",
    [
        bomb("[{}]", "[x, x, x, x, x, x, x, x, x]"),
        bomb("{{<<: [{}]}}", "{x: 1}"),
        f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 1000)}]",
    ],
    ids=["lists", "merged keys", "a long text"],
)
def test_aliases_of_aliases_are_refused_at_once(text: str):
    started = time.process_time()
    with pytest.raises(ConfigError, match=r"alias.* values, allowed are .*without aliases"):
        parse_yaml(text, "here")
    assert time.process_time() - started < 10


def test_long_documents():
    with pytest.raises(ConfigError, match=r"here: 2,000,003 characters"):
        parse_yaml("a: " + "x" * 2_000_000, "here")
    values = ", ".join(map(str, range(30_000)))
    assert len(parse_yaml(f"a: &a [{values}]\nb: *a\nc: *a", "here")["c"]) == 30_000
