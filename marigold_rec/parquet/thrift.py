"""Reads Thrift's compact protocol, in which Parquet writes its footers and page headers.

pyarrow's own view of a damaged footer's column chunks ends the whole process (an uncaught C++
exception: 39 of 25,000 mutated files), so what we want to know of them is read here.
Format: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE = range(1, 8)
_BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(8, 14)
_MAX_DEPTH = 16
"""Deeper than any structure of Parquet."""

Struct = dict[int, Any]
"""Field number -> int, bool, bytes, list or Struct."""


def read_struct(data: bytes, at: int = 0) -> Struct:
    """The struct that begins at `at`. Raises ValueError when there is none, or it is cut off."""
    return read_struct_and_size(data, at)[0]


def read_struct_and_size(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """As `read_struct`, and the bytes that the struct takes."""
    try:
        found, end = _struct(data, at, 0)
        return found, end - at
    except IndexError:
        raise ValueError("the Thrift structure is cut off") from None


def _struct(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    if depth > _MAX_DEPTH:
        raise ValueError("the Thrift structure is too deep")
    fields: Struct = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _signed(data, at)
        kind = head & 15
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        else:
            fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_I16, _I32, _I64):
        return _signed(data, at)
    if kind == _BINARY:
        size, at = _unsigned(data, at)
        return _bytes(data, at, size)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind in (_LIST, _SET):
        return _list(data, at, depth + 1)
    if kind in (_TRUE, _FALSE, _BYTE):  # in a list, a boolean takes a byte
        return data[at], at + 1
    if kind in (_DOUBLE, _UUID):
        return _bytes(data, at, 8 if kind == _DOUBLE else 16)
    raise ValueError(f"there is no Thrift type {kind} in Parquet")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth > _MAX_DEPTH:
        raise ValueError("the Thrift structure is too deep")
    head = data[at]
    size, at = head >> 4, at + 1
    if size == 15:
        size, at = _unsigned(data, at)
    values = []
    for _ in range(size):  # every element takes a byte at least, so that a wrong size soon ends
        value, at = _value(data, at, head & 15, depth)
        values.append(value)
    return values, at


def _bytes(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size], at + size


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a Thrift integer is too long")


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
