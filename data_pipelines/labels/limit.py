"""Refuses data of which too many labels are invalid: judged over all rows read so far.

A single block says little: with few observed labels (conversions, say), one bad one is already a
large share of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from data_pipelines.labels.columns import Tally
from marigold_rec.errors import DataError
from marigold_rec.transforms.examples import exact

LABELS_TO_JUDGE = 10_000
"""Observed labels of a task before its share of invalid ones is judged in the midst of an epoch."""
_SOURCES_NAMED = 6


@dataclass
class _Total:
    num_seen: int = 0
    num_invalid: int = 0
    num_zero: int = 0
    example: float = 0.0
    sources: dict[str, None] = field(default_factory=dict)
    """Row groups of the blocks that held invalid values; ordered."""


class LabelLimit:
    """Running counts of one reader. Not safe in threads: give it blocks in the order of reading."""

    def __init__(self, max_invalid: float) -> None:
        self._max_invalid = max_invalid
        self._totals: dict[str, _Total] = {}

    def add(self, tallies: Sequence[Tally], sources: Sequence[str]) -> None:
        """Counts a block. Raises DataError as `judge`, of tasks with LABELS_TO_JUDGE labels."""
        for tally in tallies:
            total = self._totals.setdefault(tally.what, _Total())
            if tally.num_invalid and not total.num_invalid:
                total.example = tally.example
            total.num_seen += tally.num_seen
            total.num_invalid += tally.num_invalid
            total.num_zero += tally.num_zero
            if tally.num_invalid:
                total.sources.update(dict.fromkeys(sources))
        self.judge(LABELS_TO_JUDGE)

    def judge(self, min_seen: int = 1) -> None:
        """Raises DataError, a line for each task of `min_seen` labels whose share is too large."""
        problems = [
            self._problem(what, total)
            for what, total in self._totals.items()
            if total.num_seen >= min_seen and total.num_invalid > self._max_invalid * total.num_seen
        ]
        if min_seen == 1:  # the first days alone may weigh nothing
            problems += [
                f"{what}, and all {total.num_seen:,} are 0 in float32; there is nothing to learn "
                "from: mend the column, or set data.weight=null"
                for what, total in self._totals.items()
                # Invalid weights are 0, too, and told of already.
                if 0 < total.num_seen == total.num_zero and not total.num_invalid
            ]
        if problems:
            raise DataError(problems)

    def _problem(self, what: str, total: _Total) -> str:
        example = "null or NaN" if total.example != total.example else exact(total.example)
        return (
            f"{what}, but {total.num_invalid:,} of {total.num_seen:,} are not "
            f"({total.num_invalid / total.num_seen:.2%}), e.g. {example}; mend the column or raise "
            f"data.max_invalid_labels ({self._max_invalid:.2%}); found in "
            f"{named_sources(tuple(total.sources))}"
        )


def named_sources(sources: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    rest = len(sources) - _SOURCES_NAMED
    return ", ".join(sources[:_SOURCES_NAMED]) + (f" and {rest} more" if rest > 0 else "")
