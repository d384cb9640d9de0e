"""Arrow's types by what they mean: compared in this one place, wherever two files meet.

Two files may write the same column as string and large_string, or as int64 and int32: their values
mean the same, and the wider type holds both. What would change a value's meaning is never joined:
numbers and text, integers and floats, int64 and uint64.
"""

from __future__ import annotations

import re
from functools import cache

import pyarrow as pa
import pyarrow.types as pat

_LIST = re.compile(r"^(large_)?list<\w+: (.*)>$")
_TIMESTAMP = re.compile(r"^timestamp\[(\w+), tz=(.+)\]$")
_DECIMAL = re.compile(r"^decimal(32|64|128|256)\((\d+), (-?\d+)\)$")
_UNITS = ("s", "ms", "us", "ns")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """`kind` without what is storage and not meaning: dictionaries, runs, views, extensions, names
    inside lists. A decimal without digits behind the point is an integer."""
    if pat.is_dictionary(kind) or pat.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pat.is_string_view(kind):
        return pa.string()
    if pat.is_binary_view(kind) or pat.is_fixed_size_binary(kind):
        return pa.binary()
    if pat.is_decimal(kind) and kind.scale == 0:
        return pa.int64()
    if pat.is_list(kind) or pat.is_fixed_size_list(kind) or pat.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    if pat.is_large_list(kind) or pat.is_large_list_view(kind):
        return pa.large_list(plain_type(kind.value_type))
    return kind


def is_list(kind: pa.DataType) -> bool:
    """Whether a plain type holds several values a row."""
    return pat.is_list(kind) or pat.is_large_list(kind)


def is_text(kind: pa.DataType) -> bool:
    return pat.is_string(kind) or pat.is_large_string(kind)


def is_bytes(kind: pa.DataType) -> bool:
    return pat.is_binary(kind) or pat.is_large_binary(kind)


def is_integer(kind: pa.DataType) -> bool:
    """Booleans are 0 and 1."""
    return pat.is_integer(kind) or pat.is_boolean(kind)


def is_number(kind: pa.DataType) -> bool:
    return pat.is_integer(kind) or pat.is_floating(kind) or pat.is_decimal(kind)


def is_hashable(kind: pa.DataType) -> bool:
    """Whether values of this plain type can be ids: hashed into a table, grouped and counted."""
    return pat.is_integer(kind) or pat.is_boolean(kind) or is_text(kind) or is_bytes(kind)


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The plain type that holds the values of both, each with its meaning; None: there is none."""
    one, other = plain_type(one), plain_type(other)
    if one == other or pat.is_null(other):
        return one
    if pat.is_null(one):
        return other
    if is_list(one) and is_list(other):
        element = common_type(one.value_type, other.value_type)
        if element is None:
            return None
        is_large = pat.is_large_list(one) or pat.is_large_list(other)
        return pa.large_list(element) if is_large else pa.list_(element)
    if is_text(one) and is_text(other):
        return pa.large_string()
    if is_bytes(one) and is_bytes(other):
        return pa.large_binary()
    if pat.is_floating(one) and pat.is_floating(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    if pat.is_integer(one) and pat.is_integer(other):
        return _common_integer(one, other)
    if pat.is_timestamp(one) and pat.is_timestamp(other) and (one.tz is None) == (other.tz is None):
        # Zones are how an instant is shown.
        return pa.timestamp(max(one.unit, other.unit, key=_UNITS.index), one.tz)
    if pat.is_decimal(one) and pat.is_decimal(other) and one.scale == other.scale:
        return max(one, other, key=lambda kind: (kind.precision, kind.bit_width))
    return None


def _common_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pat.is_signed_integer(one) == pat.is_signed_integer(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    return None if pa.uint64() in (one, other) else pa.int64()


def same_meaning(one: str, other: str) -> bool:
    """`common_type` of types as text, as a pinned schema or a night's profile keeps them."""
    if one == other:
        return True
    kinds = type_of_text(one), type_of_text(other)
    return None not in kinds and common_type(*kinds) is not None


@cache
def type_of_text(text: str) -> pa.DataType | None:
    """The type that `str` makes this text of; None for one that we compare by its text alone."""
    if found := _LIST.match(text):
        element = type_of_text(found[2])
        return None if element is None else (pa.large_list if found[1] else pa.list_)(element)
    if found := _TIMESTAMP.match(text):
        return pa.timestamp(found[1], found[2])
    if found := _DECIMAL.match(text):
        make = getattr(pa, f"decimal{found[1]}")
        try:
            return make(int(found[2]), int(found[3]))
        except (ValueError, pa.ArrowException):
            return None
    try:
        return pa.type_for_alias(text)
    except ValueError:
        return None
