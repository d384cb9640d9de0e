"""Random numbers that depend on (seed, what for, day) alone, and ids that look like real ones."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def stream(seed: int, purpose: str, day: int = 0) -> np.random.Generator:
    """An own generator per purpose and day: more days or another draw shift no other stream."""
    # crc32, not hash(): Python's string hash differs from process to process
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), day])


def sparse_ids(seed: int, purpose: str, first: int, count: int) -> Ints:
    """Ids of the entities `first` .. `first + count - 1`, spread over [0, 2**63)."""
    salt = int(stream(seed, purpose).integers(2**63))
    x = np.arange(first, first + count, dtype=np.uint64) + np.uint64(salt)
    x = x * np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele et al. 2014), a bijection
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(1)).astype(np.int64)
