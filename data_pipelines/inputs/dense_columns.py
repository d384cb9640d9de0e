"""Dense columns after their transform: how large they are, and what would bring them to size.

Numbers of the raw log (prices, counts, times) are too large for the dense part: its first layer
answers with outputs of hundreds, and the model learns nothing, or never gets over its first steps.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from data_pipelines.inputs.examples import Examples, where_of
from data_pipelines.statistics.moments import Moments
from data_pipelines.statistics.sample import PlaceSample
from marigold_rec.config.features import DenseSettings, NumberFeature, Standardize
from marigold_rec.transforms.arrow_types import is_number
from marigold_rec.transforms.columns import lone_array
from marigold_rec.transforms.dense import MAX_DENSE, number_values

_LEAST_SPREAD = 0.01
"""From least to greatest: below, the dense part hardly sees that the column moves."""
_MUCH_MISSING = 0.45
"""About half, as a sample tells it."""
_FEW_ROWS = 100
"""Fewer may be alike, or missing, by chance."""
_TIME_UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_FIRST_TIME, _LAST_TIME = 978_307_200.0, 4_102_444_800.0  # 2001 to 2100
_SHARE_OF_TIMES = 0.95


@dataclass(frozen=True)
class DenseColumn:
    """A dense feature's values after its transform; of no row, all figures are 0."""

    name: str
    column: str
    rows: int
    mean: float
    std: float
    least: float
    greatest: float
    missing_share: float
    """Of the rows whose value is null, NaN or infinite, and was filled."""
    beyond: int
    """Rows whose value is larger than MAX_DENSE."""
    findings: tuple[str, ...]


class DenseTally:
    """Fed with pieces of one feature's rows: its column, and what it was made into."""

    def __init__(self, feature: DenseSettings) -> None:
        self._feature = feature
        self._moments = Moments()
        self._raw = PlaceSample(pa.float64())
        self._is_whole = False
        self._missing = 0
        self._beyond = 0
        self._examples = Examples()
        self._large = Examples()

    def add(
        self,
        column: pa.ChunkedArray | None,
        raw_N: np.ndarray | None,
        values_N: np.ndarray,
        num_filled: int,
    ) -> None:
        """`column`: None for a feature of several. `raw_N`: its numbers before the transforms; None
        where its kind makes none. `values_N`: of the rows, all finite."""
        self._missing += num_filled
        self._moments.add(values_N.astype(np.float64))
        is_large_N = np.abs(values_N) > MAX_DENSE
        self._beyond += int(np.count_nonzero(is_large_N))
        if raw_N is not None:
            self._raw.add(pa.array(raw_N[np.isfinite(raw_N)]))
        if column is None and raw_N is None:
            return
        array = pa.array(raw_N, from_pandas=True) if column is None else lone_array(column)
        self._is_whole = pat.is_integer(array.type)
        if not (is_number(array.type) or pat.is_boolean(array.type)):
            return  # a kind that makes its number of something else, of a list say
        self._large.add(array.filter(pa.array(is_large_N)).drop_null())
        self._examples.add(array.drop_null())

    def column(self) -> DenseColumn:
        moments, rows = self._moments, self._moments.count
        return DenseColumn(
            name=self._feature.name,
            column=", ".join(self._feature.columns),
            rows=rows,
            mean=moments.mean,
            std=moments.std,
            least=moments.least if rows else 0.0,
            greatest=moments.greatest if rows else 0.0,
            missing_share=self._missing / rows if rows else 0.0,
            beyond=self._beyond,
            findings=tuple(self._findings()),
        )

    def _findings(self) -> Iterator[str]:
        rows, found = self._moments.count, self._moments
        where = where_of(self._feature)
        if self._beyond:
            peak = max(found.least, found.greatest, key=abs)
            yield (
                f"{where} reaches {peak:,.6g} after its transform ({self._beyond:,} of {rows:,} "
                f"rows are beyond {MAX_DENSE:g}), e.g. {self._large}: too large for the dense "
                f"part, which takes numbers of about -3 to 3; {self._advice()}"
            )
        if rows < _FEW_ROWS:
            return
        if self._missing >= _MUCH_MISSING * rows:
            yield (
                f"{where} is missing in {self._missing:,} of {rows:,} rows (found: "
                f"{self._examples}), and {self._feature.missing:g} takes its place: is it the "
                "right column? Fill it, or leave the feature out"
            )
        spread = found.greatest - found.least
        if spread == 0 and self._missing < rows:
            yield (
                f"{where} is {found.least:g} in all {rows:,} rows after its transform (found: "
                f"{self._examples}), which says nothing: look at its clip, or leave it out"
            )
        elif 0 < spread < _LEAST_SPREAD and not self._beyond:
            yield (
                f"{where} hardly moves after its transform: {found.least:g} to {found.greatest:g} "
                f"(found: {self._examples}); {self._advice()}"
            )

    def _advice(self) -> str:
        """What to set, tried on the values themselves with the transform's own code."""
        raw_N = self._raw.values().to_numpy()
        if (times := _times(raw_N)) is not None:
            return (
                f"they look like {times}: a model can't use a point in time as a number: make "
                "an hour, a weekday or an age of it, or leave the feature out"
            )
        if self._missing:
            raw_N = np.append(raw_N, self._feature.missing)
        feature = self._feature
        if not isinstance(feature, NumberFeature):  # another kind has transforms of its own
            return "bring it to size"
        for changed in _candidates(feature, raw_N):
            if np.abs(_transformed(changed, raw_N)).max() <= MAX_DENSE:
                settings = ", ".join(_settings(feature, changed))
                ids = " (or kind: hash, if these are ids or codes)" if self._is_whole else ""
                return f"set {settings}{ids}"
        return "set clip and standardize"


def _times(raw_N: np.ndarray) -> str | None:
    """`Unix milliseconds, 2023-11-14 to 2023-11-20`, or None."""
    for unit, per_second in _TIME_UNITS.items():
        seconds_N = raw_N / per_second
        seconds_N = seconds_N[(seconds_N >= _FIRST_TIME) & (seconds_N < _LAST_TIME)]
        if len(raw_N) and len(seconds_N) >= _SHARE_OF_TIMES * len(raw_N):
            ends = (float(seconds_N.min()), float(seconds_N.max()))
            days = [datetime.datetime.fromtimestamp(s, datetime.UTC).date() for s in ends]
            return f"Unix {unit}, {days[0]} to {days[1]}"
    return None


def _candidates(feature: NumberFeature, raw_N: np.ndarray) -> Iterator[NumberFeature]:
    """From the mildest change to the last resort."""
    plain = feature.model_copy(update={"standardize": None})
    yield _standardized(plain, raw_N)
    if feature.transform == "none":
        log = plain.model_copy(update={"transform": "log1p", "clip": None})
        yield log
        yield _standardized(log, raw_N)
        plain = log
    found = _standardized(plain, raw_N).standardize
    if found is not None:
        ends = (_rounded(found.mean - 5 * found.std), _rounded(found.mean + 5 * found.std))
        yield plain.model_copy(update={"clip": ends, "standardize": found})


def _standardized(feature: NumberFeature, raw_N: np.ndarray) -> NumberFeature:
    x_N = _transformed(feature, raw_N)
    std = float(x_N.std())
    if std == 0:
        return feature
    wanted = Standardize(mean=_rounded(float(x_N.mean())), std=_rounded(std))
    return feature.model_copy(update={"standardize": wanted})


def _transformed(feature: NumberFeature, raw_N: np.ndarray) -> np.ndarray:
    return number_values(feature, raw_N)[0]


def _settings(old: NumberFeature, new: NumberFeature) -> Iterator[str]:
    """What to write into the config."""
    if new.transform != old.transform:
        yield f"transform: {new.transform}"
    if new.clip != old.clip:
        ends = "null" if new.clip is None else f"[{new.clip[0]:g}, {new.clip[1]:g}]"
        yield f"clip: {ends}"
    if new.standardize is not None:
        yield f"standardize: {{mean: {new.standardize.mean:g}, std: {new.standardize.std:g}}}"
    elif old.standardize is not None:
        yield "standardize: null"


def _rounded(x: float) -> float:
    return float(f"{x:.3g}")
