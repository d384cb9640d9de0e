"""How far two distributions lie apart: the population stability index of profiles and histograms.

PSI = sum over bins of (p - q) ln(p / q), Jeffreys' divergence: 0 for equal shares; by custom below
0.1 is calm and above 0.25 is a large shift. Half a count is added to every bin, so that an empty
bin of few values says little, and no share counts as less than FLOOR. What chance alone gives,
(bins - 1) (1/n + 1/m) for samples of n and m values, is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.report import Histogram
from marigold_rec.profile import Numbers, Values

NUM_BINS = 10
FLOOR = 0.001
"""Without it an hour without rows would weigh as much as a day that is upside down."""
NUM_RANKS = 128
LISTED = 0.95
"""Share of the values that a list of the most frequent ones must hold to stand for all of them."""

Shares = NDArray[np.float64]


def psi(today: Shares, reference: Shares, num_today: float, num_reference: float) -> float:
    """Of shares in the same bins, of so many values; never below 0."""
    bins = len(today)
    p, q = (
        np.maximum((shares * num + 0.5) / (num + 0.5 * bins), FLOOR)
        for shares, num in ((today, num_today), (reference, num_reference))
    )
    chance = (bins - 1) * (1.0 / num_today + 1.0 / num_reference)
    return max(0.0, float(np.sum((p - q) * np.log(p / q))) - chance)


def numbers_psi(today: Numbers, reference: Numbers) -> float:
    """In the bins between the reference's deciles, each of which counts once."""
    quantiles = np.array(reference.quantiles)
    places = np.linspace(0, len(quantiles) - 1, NUM_BINS + 1)[1:-1].round().astype(int)
    edges = np.unique(quantiles[places])
    return psi(
        _between(_share_up_to(np.array(today.quantiles), edges)),
        _between(_share_up_to(quantiles, edges)),
        today.sampled,
        reference.sampled,
    )


def values_psi(today: Values, reference: Values) -> float:
    """By value, where both lists hold nearly all; else only of how the values are concentrated.

    Ids come and go every day (articles, users): that other ones are frequent today means nothing.
    That one of them has half of the rows does.
    """
    if min(1 - today.rest, 1 - reference.rest) >= LISTED:
        names = list(dict.fromkeys(name for name, _ in (*today.top, *reference.top)))
        shares = [_of_names(names, values) for values in (today, reference)]
    else:
        shares = [_by_rank(values) for values in (today, reference)]
    return psi(shares[0], shares[1], today.sampled, reference.sampled)


def histogram_psi(today: Histogram, reference: Histogram) -> float | None:
    """Of scores, in ten bins that hold as much of the reference each. None: no row."""
    counts = [np.add(of.positives, of.negatives) for of in (today, reference)]
    if min(count.sum() for count in counts) <= 0:
        return None
    sums = [np.concatenate([[0.0], np.cumsum(count)]) / count.sum() for count in counts]
    steps = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    edges = np.unique(np.interp(steps, sums[1], reference.edges))
    shares = [
        _between(np.interp(edges, of.edges, upto))
        for of, upto in zip((today, reference), sums, strict=True)
    ]
    return psi(shares[0], shares[1], counts[0].sum(), counts[1].sum())


def _share_up_to(quantiles: Shares, edges: Shares) -> Shares:
    """Of the values that are not above each edge; between two quantiles in a straight line."""
    last = len(quantiles) - 1
    above = np.searchsorted(quantiles, edges, side="right")
    below = np.clip(above - 1, 0, last)
    after = np.clip(above, 0, last)
    gap = quantiles[after] - quantiles[below]
    part = np.where(gap > 0, (edges - quantiles[below]) / np.where(gap > 0, gap, 1.0), 0.0)
    return np.where(above == 0, 0.0, np.where(above > last, 1.0, (below + part) / last))


def _between(upto: Shares) -> Shares:
    return np.diff(np.concatenate([[0.0], upto, [1.0]]))


def _of_names(names: Sequence[str], values: Values) -> Shares:
    found = dict(values.top)
    shares = np.array([found.get(name, 0.0) for name in names])
    return np.append(shares, 1.0 - shares.sum()).clip(0.0)


def _by_rank(values: Values) -> Shares:
    """The first, the next two, the next four, ... and the rest."""
    shares = np.array([share for _, share in values.top])
    ends = [2**power - 1 for power in range(int(math.log2(NUM_RANKS)) + 1)]
    upto = np.array([shares[:end].sum() for end in ends[1:]])
    return np.append(np.diff(np.concatenate([[0.0], upto])), 1.0 - upto[-1]).clip(0.0)
