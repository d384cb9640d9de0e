"""A yes/no task's rows from the highest score to the lowest: one sort for its figures and curves.

Shapes: N rows, n of them in a chunk; B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.codes import Keys, code_keys, float_bits
from marigold_rec.analysis.row_arrays import chunks, empty, looked_up
from marigold_rec.analysis.rows import Float64s, Rows

NUM_BINS = 20

Places = NDArray[np.intp]

_BITS_OF_ONE = np.uint32(0x3F800000)
_IS_NEGATIVE = np.uint64(1 << 32)
_SCORE_SHIFT = np.uint64(33)


@dataclass(frozen=True)
class Ranking:
    """Rows with equal scores are a tie: the positives first, but no sum may stop within one."""

    keys_N: Keys
    """From the high bits on: the score, falling; is it a negative?; 32 bits that say which row it
    is. Sorting integers that carry what belongs to them is several times faster than argsort."""
    positive_sum: NDArray[Any]
    """Weight of the positives in the first i places, i = 0 .. N; integers where all weigh 1."""
    negative_sum: NDArray[Any] | None
    """Of the negatives: a difference from all would leave rounding errors of the larger. None where
    all rows weigh 1: it is then exact."""
    weight_N: NDArray[np.float32] | None
    """None: all weigh 1."""
    user_N: NDArray[np.int32] | None
    """Where the low bits do not say it. None: they do, or there are no users."""

    @classmethod
    def of(cls, rows: Rows) -> Ranking:
        """Scores must be in [0, 1]. Memory: 12 bytes a row, 32 with weights."""
        keys = _sorted_keys(rows)
        weight, user, dtype = None, None, np.int32
        if rows.weight_N is not None:
            weight, dtype = looked_up(rows.weight_N, keys), np.float64
            user = None if rows.user_N is None else looked_up(rows.user_N, keys)
        positive_sum = _zero_first(len(rows) + 1, dtype)
        negative_sum = None if weight is None else _zero_first(len(rows) + 1, dtype)
        ranking = cls(keys, positive_sum, negative_sum, weight, user)
        for part in chunks(len(rows)):
            is_positive_n = ranking.is_positive(part)
            for sum_N, is_n in ((positive_sum, is_positive_n), (negative_sum, ~is_positive_n)):
                if sum_N is None:
                    continue
                own_n = ranking.weighted(part, is_n.astype(dtype))
                own_n[0] += sum_N[part.start]
                np.cumsum(own_n, out=sum_N[part.start + 1 : part.stop + 1])
        return ranking

    def __len__(self) -> int:
        return len(self.keys_N)

    @property
    def positive(self) -> float:
        return float(self.positive_sum[-1])

    @property
    def negative(self) -> float:
        return float(self.negatives_before(np.array(len(self))))

    @property
    def has_both_classes(self) -> bool:
        return self.positive > 0 and self.negative > 0

    def positives_before(self, places: Places) -> NDArray[Any]:
        """Weight of the positives in the places before each of these, which are in 0 .. N."""
        return self.positive_sum[places]

    def negatives_before(self, places: Places) -> NDArray[Any]:
        if self.negative_sum is None:
            return places - self.positive_sum[places]
        return self.negative_sum[places]

    def weight_before(self, places: Places) -> NDArray[Any]:
        return self.positives_before(places) + self.negatives_before(places)

    def first_place(self, before: Callable[[Places], NDArray[Any]], limits: Float64s) -> Places:
        """The first place, 0 .. N, with at least each of these limits before it; N if there is
        none. `before`: one of the three above."""
        low, high = np.zeros(len(limits), np.intp), np.full(len(limits), len(self))
        while (low < high).any():
            middle = (low + high) // 2
            is_enough = before(middle) >= limits
            low, high = np.where(is_enough, low, middle + 1), np.where(is_enough, middle, high)
        return low

    def weighted(self, part: slice, values_n: NDArray[Any]) -> NDArray[Any]:
        """The values of the rows in these places, times their weights; may be the same array."""
        return values_n if self.weight_N is None else values_n * self.weight_N[part]

    def clusters(self, part: slice) -> Places:
        """Of the rows in these places, see `ClusterSums`."""
        if self.user_N is not None:
            return self.user_N[part].astype(np.intp)
        return self.keys_N[part].astype(np.uint32).astype(np.intp)

    def ties(self, part: slice) -> Keys:
        """A number for each row, equal in ties; it rises."""
        return self.keys_N[part] >> _SCORE_SHIFT

    def is_positive(self, part: slice) -> NDArray[np.bool_]:
        return (self.keys_N[part] & _IS_NEGATIVE) == 0

    def scores(self, where: slice | Places) -> NDArray[np.float32]:
        code = (self.keys_N[where] >> _SCORE_SHIFT).astype(np.uint32)
        return np.subtract(_BITS_OF_ONE, code, out=code).view(np.float32)

    def whole_ties(self) -> Iterator[slice]:
        """All places, in chunks that no tie straddles; larger where a tie has more rows."""
        start = 0
        for part in chunks(len(self)):
            if part.stop > start:
                stop = int(self.end_of_tie(np.array(part.stop - 1)))
                yield slice(start, stop)
                start = stop

    def start_of_tie(self, places: Places) -> Places:
        """The first place of the tie that each of these is in."""
        tie = self.keys_N[places] >> _SCORE_SHIFT
        return np.searchsorted(self.keys_N, tie << _SCORE_SHIFT)

    def end_of_tie(self, places: Places) -> Places:
        """One past its last place."""
        tie = (self.keys_N[places] >> _SCORE_SHIFT) + np.uint64(1)
        return np.searchsorted(self.keys_N, tie << _SCORE_SHIFT)

    def num_rows_from(self, scores: NDArray[np.float32]) -> Places:
        """Number of rows with at least each of these scores."""
        tie = (_BITS_OF_ONE - float_bits(scores)).astype(np.uint64) + np.uint64(1)
        return np.searchsorted(self.keys_N, tie << _SCORE_SHIFT)

    @cached_property
    def bin_starts(self) -> Places:
        """First places of at most NUM_BINS bins of equal weight; a tie is in the bin of its middle.

        Equal weight and not equal width: a click rate's scores would share one or two bins of equal
        width, in which errors of both signs cancel.
        """
        limits = np.arange(1, NUM_BINS) / NUM_BINS * (self.positive + self.negative)
        place = self.first_place(self.weight_before, limits) - 1
        start, end = self.start_of_tie(place), self.end_of_tie(place)
        is_upper = 0.5 * (self.weight_before(start) + self.weight_before(end)) >= limits
        starts = np.unique([0, *np.where(is_upper, start, end)])
        return starts[starts < len(self)]

    @cached_property
    def bin_scores(self) -> Float64s:
        """[B]: weighted sum of the scores of each bin."""
        return self.sums_by_bin(
            lambda part: self.weighted(part, self.scores(part).astype(np.float64))
        )

    def sums_by_bin(self, values: Callable[[slice], Float64s]) -> Float64s:
        """[B]: of what `values` gives for the rows in some places."""
        starts = self.bin_starts
        sums_B = np.zeros(len(starts))
        for part in chunks(len(self)):
            first, last = np.searchsorted(starts, [part.start + 1, part.stop])
            own = slice(first - 1, last)  # the bins that have a row here
            sums_B[own] += np.add.reduceat(values(part), np.maximum(starts[own] - part.start, 0))
        return sums_B


def _sorted_keys(rows: Rows) -> Keys:
    """The low bits: a row's user, where that is all that has to be known of it; else its number."""
    keys = empty(len(rows), np.uint64)
    for part in chunks(len(rows)):
        high_n = _BITS_OF_ONE - float_bits(rows.score_N[part])
        high_n <<= np.uint32(1)
        high_n |= rows.label_N[part] == 0
        if rows.user_N is not None and rows.weight_N is None:
            low_n = rows.user_N[part].astype(np.uint32)
        else:
            low_n = np.arange(part.start, part.stop, dtype=np.uint32)
        keys[part] = code_keys(high_n, low_n)
    keys.sort()
    return keys


def _zero_first(num: int, dtype: type) -> NDArray[Any]:
    sums = empty(num, dtype)
    sums[:1] = 0
    return sums
