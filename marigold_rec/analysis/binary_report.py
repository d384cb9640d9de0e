"""All figures and the curves of a yes/no task together: one ranking for both, and two threads.

numpy lets go of Python's lock in its large operations. Each sum is taken within one thread and in
one order, so that nothing depends on who is faster.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from marigold_rec.analysis.auc import ranked_estimates
from marigold_rec.analysis.binary import additive_estimates, binary_estimates, with_reasons
from marigold_rec.analysis.by_user import gauc_estimates, no_figure
from marigold_rec.analysis.class_sums import ClassSums
from marigold_rec.analysis.curves import binary_curves, curves_of
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.ranking import Ranking
from marigold_rec.analysis.report import Curves
from marigold_rec.analysis.rows import Rows

_ROWS_FOR_TWO = 1 << 18
"""With fewer, one thread is as fast."""


def binary_figures(rows: Rows) -> dict[str, Estimate]:
    """`binary_estimates` and `gauc_estimates`."""
    if no_figure(rows, 1) is not None:
        return binary_estimates(rows) | gauc_estimates(rows)
    sums = ClassSums.of(rows)
    return binary_estimates(rows, sums=sums) | gauc_estimates(rows, sums=sums)


def binary_report(rows: Rows, confidence: float = 0.95) -> tuple[dict[str, Estimate], Curves]:
    """`binary_estimates` and `gauc_estimates`; `binary_curves`. Equal to theirs, bit for bit.

    Memory beyond `rows`: that of a `Ranking` and of `ClassSums`, and the influences.
    """
    if len(rows) < _ROWS_FOR_TWO or no_figure(rows, 1) is not None:
        return binary_figures(rows), binary_curves(rows, confidence)
    with ThreadPoolExecutor(1) as other:
        sums = other.submit(ClassSums.of, rows)
        by_user = other.submit(lambda: gauc_estimates(rows, sums=sums.result()))
        additive = other.submit(lambda: additive_estimates(sums.result()))
        ranking = Ranking.of(rows)
        ranked = ranked_estimates(ranking, sums.result())
        curves = curves_of(ranking, confidence)
        estimates = with_reasons(rows, ranked | additive.result()) | by_user.result()
    return estimates, curves
