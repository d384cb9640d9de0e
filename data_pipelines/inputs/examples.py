"""Values as they stand in a column, a few of them, for a person who has to recognise them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from marigold_rec.config.features import FeatureSettings
from marigold_rec.transforms.examples import exact

NUM_EXAMPLES = 2
_MOST_CHARACTERS = 40


class Examples:
    """The first few different values of all that are shown to it."""

    def __init__(self, most: int = NUM_EXAMPLES) -> None:
        self._most = most
        self.values: list[object] = []

    def add(self, values: pa.Array) -> None:
        """Costs nothing once the examples are complete."""
        if len(self.values) == self._most or not len(values):
            return
        for value in values.unique()[: self._most + len(self.values)].to_pylist():
            if value not in self.values and len(self.values) < self._most:
                self.values.append(value)

    def __str__(self) -> str:
        return named(self.values)


def named(values: Iterable[object]) -> str:
    """`'Phone' and 'Web'`."""
    return " and ".join(shown_value(value) for value in values) or "no value"


def where_of(feature: FeatureSettings) -> str:
    """`features.price: column 'amount'`."""
    word = "column" if len(feature.columns) == 1 else "columns"
    return f"features.{feature.name}: {word} {' and '.join(map(repr, feature.columns))}"


def shown_value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return exact(value)
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
