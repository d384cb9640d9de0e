"""The input of an accumulator: arrays or CPU tensors -> checked float32 columns of one length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]


@dataclass(frozen=True)
class CheckedRows:
    """Rows that count: weight > 0 and a prediction within its limits; what was left out is counted.

    No column holds NaN, infinity or -0.0, so that equal values have equal bits.
    """

    predictions: Float32s
    labels: Float32s
    weights: Float32s
    num_zero_weight: int
    num_invalid: int


def check_rows(
    predictions: Any, labels: Any, weights: Any | None, *, largest_prediction: float
) -> CheckedRows:
    """Predictions outside [0, largest_prediction], NaN and infinities among them, are counted.

    Raises TypeError for float64 (rounding it here would make ties that the caller did not have),
    ValueError for arrays of different lengths, labels or weights that are negative or not finite.
    """
    prediction = _column("predictions", predictions)
    label = _column("labels", labels)
    weight = np.ones(len(label), np.float32) if weights is None else _column("weights", weights)
    if not len(prediction) == len(label) == len(weight):
        raise ValueError(
            f"columns of different lengths: {len(prediction)} predictions, {len(label)} labels, "
            f"{len(weight)} weights"
        )
    for name, column in (("labels", label), ("weights", weight)):
        bad = ~((column >= 0) & (column < np.inf))
        if bad.any():
            raise ValueError(
                f"{name} must be finite and >= 0; found {column[bad][0]} and "
                f"{int(bad.sum()) - 1} more; leave unobserved rows out before adding"
            )
    counts = weight > 0
    valid = (prediction >= 0) & (prediction <= largest_prediction) & (prediction < np.inf)
    kept = counts & valid
    if not kept.all():
        prediction, label, weight = prediction[kept], label[kept], weight[kept]
    return CheckedRows(
        predictions=prediction,
        labels=label,
        weights=weight,
        num_zero_weight=int((~counts).sum()),
        num_invalid=int((counts & ~valid).sum()),
    )


def _column(name: str, values: Any) -> Float32s:
    column = np.asarray(values)
    if column.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional; found shape {column.shape}")
    if column.dtype.kind == "f" and column.dtype.itemsize > 4:
        raise TypeError(f"{name} are {column.dtype}; give float32, rounded where you know how")
    return column.astype(np.float32) + np.float32(0)  # -0.0 + 0 is 0.0
