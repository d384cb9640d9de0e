"""What a profile keeps of one column, gathered piece by piece.

Exact over all rows: counts, nulls, mean, spread and ends. From a sample by place (`sample.py`):
quantiles and the most frequent values. Memory: two samples' worth per column at most.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from data_pipelines.statistics.distinct import DistinctCount
from data_pipelines.statistics.moments import Moments
from data_pipelines.statistics.sample import PlaceSample
from marigold_rec.profile import ColumnProfile, Numbers, Role, Values
from marigold_rec.transforms.arrow_types import is_list
from marigold_rec.transforms.columns import float64_values, int64_bits, lone_array
from marigold_rec.transforms.hashing import mix64, stable_hash

NUM_QUANTILES = 101
NUM_TOP_VALUES = 128
_MOST_CHARACTERS = 100
_LARGEST = 1e150
"""Beyond, squares overflow: such a number counts as infinite."""


class ColumnTally:
    """Of one column of plain type `kind`; feed it with the column's pieces in their order."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._is_list = is_list(kind)
        self._element = kind.value_type if self._is_list else kind
        self._is_nested = pat.is_nested(self._element)
        is_number = pat.is_integer(self._element) or pat.is_floating(self._element)
        is_number = is_number or pat.is_timestamp(kind) or pat.is_boolean(self._element)
        self._numbers = _NumberTally() if is_number and not self._is_list else None
        self._lengths = _NumberTally() if self._is_list else None
        is_float = pat.is_floating(self._element)
        self._sample = PlaceSample(pa.float64() if is_float else self._element)
        self._distinct = DistinctCount()
        self._nulls = 0
        self._count = 0

    def add(self, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
        """Returns a hash of each row's value, uint64 [rows]; of lists, of their elements in order.

        Null and NaN hash alike.
        """
        array = lone_array(column)
        self._nulls += array.null_count
        lengths_B = None
        if self._lengths is not None:
            lengths = pc.call_function("list_value_length", [array])
            lengths_B = lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
            self._lengths.add(lengths.drop_null())
            array = array.flatten()
        if self._is_nested:
            # No feature reads lists of lists: nulls are all that is said of them.
            return np.zeros(len(lone_array(column)), np.uint64)
        is_value = array.is_valid().to_numpy(zero_copy_only=False)
        values = array.drop_null()
        if pat.is_floating(values.type):
            # + 0: the two zeros are one value.
            values = pc.call_function("add", [values.cast(pa.float64()), pa.scalar(0.0)])
            is_nan = pc.call_function("is_nan", [values])
            if num_nan := int(pc.call_function("sum", [is_nan]).as_py() or 0):
                values = values.filter(pc.call_function("invert", [is_nan]))
                is_value[is_value] = ~is_nan.to_numpy(zero_copy_only=False)
                self._nulls += 0 if self._is_list else num_nan
        self._count += len(values)
        hashes = _hashes(values)
        self._distinct.add(hashes)
        self._sample.add(values)
        if self._numbers is not None:
            self._numbers.add(values)
        hashes_V = np.zeros(len(array), np.uint64)
        hashes_V[is_value] = hashes
        return hashes_V if lengths_B is None else _list_hashes(hashes_V, lengths_B)

    def profile(self, roles: tuple[Role, ...]) -> ColumnProfile:
        return ColumnProfile(
            type=str(self._kind),
            roles=roles,
            nulls=self._nulls,
            count=self._count,
            distinct=self._distinct.count,
            distinct_is_exact=self._distinct.is_exact and not self._is_nested,
            numbers=None if self._numbers is None else self._numbers.numbers(),
            values=_top_values(self._sample.values()),
            lengths=None if self._lengths is None else self._lengths.numbers(),
        )


class _NumberTally:
    def __init__(self) -> None:
        self._moments = Moments()
        self._sample = PlaceSample(pa.float64())

    def add(self, values: pa.Array) -> None:
        """No nulls."""
        if pat.is_timestamp(values.type):
            values = values.cast(pa.int64())
        numbers = float64_values(values)
        numbers = numbers[np.abs(numbers) <= _LARGEST]
        self._moments.add(numbers)
        self._sample.add(pa.array(numbers))

    def numbers(self) -> Numbers | None:
        moments = self._moments
        if moments.count == 0:
            return None
        sampled = self._sample.values().to_numpy()
        # Values that occur, not between them: in discrete columns an edge is then a real value.
        steps = np.linspace(0.0, 1.0, NUM_QUANTILES)
        quantiles = np.quantile(sampled, steps, method="inverted_cdf")
        return Numbers(
            count=moments.count,
            mean=moments.mean,
            std=moments.std,
            least=moments.least,
            greatest=moments.greatest,
            quantiles=tuple(quantiles.tolist()),
            sampled=len(sampled),
        )


def _top_values(sample: pa.Array) -> Values | None:
    if len(sample) == 0:
        return None
    counted = pc.call_function("value_counts", [sample])
    counts = counted.field("counts").to_numpy()
    # Stable: equally frequent ones stay in the order in which they came.
    order = np.argsort(-counts, kind="stable")[:NUM_TOP_VALUES]
    names = counted.field("values").take(pa.array(order)).to_pylist()
    shares = (counts[order] / len(sample)).tolist()
    return Values(
        top=tuple((_text(name), share) for name, share in zip(names, shares, strict=True)),
        rest=int(counts.sum() - counts[order].sum()) / len(sample),
        sampled=len(sample),
    )


def _text(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    if len(text) <= _MOST_CHARACTERS:
        return text
    # Long texts that begin alike stay different.
    mark = f"... {stable_hash(text.encode('utf-8', 'surrogatepass')):016x}"
    return text[: _MOST_CHARACTERS - len(mark)] + mark


def _hashes(values: pa.Array) -> np.ndarray:
    """uint64, one for each value."""
    kind = values.type
    if pat.is_integer(kind) or pat.is_boolean(kind):
        return mix64(int64_bits(values).view(np.uint64))
    if pat.is_floating(kind):
        return mix64(float64_values(values).view(np.uint64))
    if pat.is_temporal(kind) and kind.bit_width == 64:
        return mix64(values.cast(pa.int64()).to_numpy().view(np.uint64))
    if not (pat.is_binary(kind) or pat.is_large_binary(kind)):
        values = values.cast(pa.large_string()).cast(pa.large_binary())
    coded = values.dictionary_encode()
    distinct = coded.dictionary
    hashes = np.fromiter((stable_hash(v) for v in distinct.to_pylist()), np.uint64, len(distinct))
    return hashes[coded.indices.to_numpy()]


def _list_hashes(hashes_V: np.ndarray, lengths_B: np.ndarray) -> np.ndarray:
    """uint64 [B]: of each list, by its elements at their places. An empty one is 0, as null is."""
    ends_B = np.cumsum(lengths_B)
    places_V = np.arange(len(hashes_V)) - np.repeat(ends_B - lengths_B, lengths_B)
    placed_V = mix64(hashes_V + mix64(places_V.view(np.uint64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(placed_V, dtype=np.uint64)])
    return sums[ends_B] - sums[ends_B - lengths_B]
