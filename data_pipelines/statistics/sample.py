"""A sample of a stream whose length nobody knows: some values by their place, bounded and the same.

A value stands in the sample where a hash of its place in the stream is below a threshold, which is
halved whenever the sample grows too large. So every value has the same chance, a slate's rhythm
can't fall in step with it, and the same stream gives the same sample however it is cut.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from marigold_rec.transforms.hashing import mix64

MOST = 1 << 17
"""Values that a sample holds at most."""


class PlaceSample:
    def __init__(self, kind: pa.DataType, most: int = MOST) -> None:
        """Of values of Arrow type `kind`, without nulls."""
        self._kind = kind
        self._most = most
        self._threshold = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
        self._place = 0
        self._hashes: list[np.ndarray] = []
        self._values: list[pa.Array] = []
        self._size = 0

    def add(self, values: pa.Array) -> None:
        places = np.arange(self._place, self._place + len(values), dtype=np.uint64)
        self._place += len(values)
        hashes = mix64(places)
        keep = hashes <= self._threshold
        if not keep.all():
            values, hashes = values.filter(pa.array(keep)), hashes[keep]
        self._hashes.append(hashes)
        self._values.append(values)
        self._size += len(values)
        while self._size > self._most:
            self._halve()

    def _halve(self) -> None:
        self._threshold >>= np.uint64(1)
        hashes, values = np.concatenate(self._hashes), pa.concat_arrays(self._values)
        keep = hashes <= self._threshold
        self._hashes, self._values = [hashes[keep]], [values.filter(pa.array(keep))]
        self._size = int(keep.sum())

    def values(self) -> pa.Array:
        return pa.concat_arrays(self._values) if self._values else pa.array([], self._kind)
