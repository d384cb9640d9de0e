"""Rows that a metric gets wrong first: ties, extreme weights, one class, almost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    predictions: Float32s
    labels: Float32s
    weights: Float32s

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Any) -> Rows:
        return Rows(self.predictions[index], self.labels[index], self.weights[index])

    def oracle(self) -> tuple[Any, Any, Any]:
        """(predictions, labels, weights) in float64, rows of weight 0 included."""
        columns = (self.predictions, self.labels, self.weights)
        prediction, label, weight = (column.astype(np.float64) for column in columns)
        return prediction, label, weight


def _weights(generator: np.random.Generator, kind: str, num_rows: int) -> Float32s:
    if kind == "ones":
        return np.ones(num_rows, np.float32)
    if kind == "some_zero":
        return generator.integers(0, 4, num_rows).astype(np.float32)
    return (10 ** generator.uniform(-4, 4, num_rows)).astype(np.float32)


WEIGHTS = ["ones", "some_zero", "wide"]
BINARY_SCORES = ["distinct", "few", "equal", "saturated"]
SECONDS = ["distinct", "few", "huge"]


def binary_rows(scores: str, weights: str, num_rows: int = 500, seed: int = 0) -> Rows:
    """Both classes are there, also among the rows that weigh something."""
    generator = np.random.default_rng([seed, num_rows])
    score = generator.random(num_rows).astype(np.float32)
    if scores == "few":
        score = np.round(score * 6).astype(np.float32) / np.float32(6)
    elif scores == "equal":
        score = np.full(num_rows, 0.3, np.float32)
    elif scores == "saturated":
        score = (1 / (1 + np.exp(-generator.normal(0, 40, num_rows)))).astype(np.float32)
    label = (generator.random(num_rows) < 0.2 + 0.6 * score).astype(np.float32)
    weight = _weights(generator, weights, num_rows)
    label[:2], weight[:2] = (0, 1), 1
    return Rows(score, label, weight)


def second_rows(seconds: str, weights: str, num_rows: int = 500, seed: int = 0) -> Rows:
    generator = np.random.default_rng([seed, num_rows])
    scale = 1e30 if seconds == "huge" else 60
    label = generator.exponential(scale, num_rows).astype(np.float32)
    prediction = (label * generator.lognormal(0, 1, num_rows)).astype(np.float32)
    if seconds == "few":
        label, prediction = np.floor(label / 40), np.floor(prediction / 30)
    weight = _weights(generator, weights, num_rows)
    label[:2], prediction[:2], weight[:2] = (0, 9), (0, 7), 1
    return Rows(prediction, label, weight)
