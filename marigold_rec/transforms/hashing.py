"""`hash`: any integer or string -> a row of a table, the same in every process and release.

row = (mix(id + salt) as unsigned 64 bit) mod rows
mix: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection on 64 bits
id:  the integer's 64 bits, or the first 8 bytes (little-endian) of blake2b of the string
salt: the same 8 bytes of the table's name, so that tables do not collide on the same ids,
      while features that share a table send one id to one row
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import HashFeature
from marigold_rec.transforms.arrow_types import is_hashable
from marigold_rec.transforms.columns import int64_bits
from marigold_rec.transforms.kinds import LookupKind
from marigold_rec.transforms.rows import RowLookup, Rows

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stable_hash(text: bytes) -> int:
    """64-bit hash of `text` that no process, seed or version changes (unlike Python's own)."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def mix64(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser over uint64 [V], into a new array."""
    z = values + _GAMMA
    z ^= z >> np.uint64(30)
    z *= _MIX_1
    z ^= z >> np.uint64(27)
    z *= _MIX_2
    z ^= z >> np.uint64(31)
    return z


@dataclass(frozen=True)
class HashRows:
    """Rows of table `table`, which has `rows` rows."""

    table: str
    rows: int

    def __call__(self, values: pa.Array) -> Rows:
        return Rows(modulo(mix64(bits_of(values) + salt_of(self.table)), self.rows))


def salt_of(table: str) -> np.uint64:
    return np.uint64(stable_hash(table.encode()))


def modulo(mixed: np.ndarray, rows: int) -> np.ndarray:
    """`mixed` (uint64, in whose place it is made) modulo `rows`, as int64."""
    divisor = np.uint64(rows)
    # x - x // n * n: numpy divides by a constant with SIMD, but does not for %.
    mixed -= mixed // divisor * divisor
    return mixed.view(np.int64)


def value_codes(values: pa.Array) -> Rows:
    """Ids as they count in a cross: by their value, so that two that share a row stay apart."""
    return Rows(bits_of(values).view(np.int64))


def bits_of(values: pa.Array) -> np.ndarray:
    """uint64 [V]: what stands for each value before the salt."""
    if pat.is_integer(values.type) or pat.is_boolean(values.type):
        return int64_bits(values).view(np.uint64)
    # Python touches each distinct string once, never each row.
    coded = values.dictionary_encode()
    distinct = coded.dictionary
    if pat.is_string(distinct.type) or pat.is_large_string(distinct.type):
        distinct = distinct.cast(pa.large_binary())
    hashes = np.fromiter(
        (stable_hash(text) for text in distinct.to_pylist()), np.uint64, len(distinct)
    )
    return hashes[coded.indices.to_numpy()]


class Hash(LookupKind):
    """`kind: hash`."""

    Settings = HashFeature

    @staticmethod
    def wants(feature: HashFeature) -> str:
        return "an integer, a string or a list of them"

    @staticmethod
    def accepts(feature: HashFeature, value_type: pa.DataType) -> bool:
        return is_hashable(value_type)

    @staticmethod
    def usual_type(feature: HashFeature) -> pa.DataType:
        return pa.int64()

    @staticmethod
    def lookup(feature: HashFeature, rows: int) -> RowLookup:
        return HashRows(feature.table_name, rows)

    @classmethod
    def codes(cls, feature: HashFeature) -> RowLookup:
        return value_codes
