"""Who is shown what, when and where on one day.

Shapes: B rows. A request is SLATE consecutive rows of one user at one time; the day's last request
may be cut short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipelines.synthetic.population import COUNTRIES, DEVICES, Population
from data_pipelines.synthetic.random_streams import Floats, Ints, stream
from marigold_rec.config.data import SyntheticConfig

SLATE = 5
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_USUAL_DEVICE_SHARE = 0.8
_TRAVELLING_SHARE = 0.03
# Requests by hour of the day: a dip at night, a peak in the evening
_HOUR_SHARES = 1.0 + 0.8 * np.cos(2 * np.pi * (np.arange(24) - 19) / 24)


@dataclass(frozen=True)
class Exposures:
    """The rows of one day, ordered by time; `user_B` and `item_B` index the population."""

    user_B: Ints
    item_B: Ints
    country_B: Ints
    device_B: Ints
    hour_B: Ints
    pos_B: Ints  # place in the slate, from 0
    request_B: Ints  # from 0 on each day
    time_ms_B: Ints  # since midnight


def draw_exposures(
    population: Population, config: SyntheticConfig, rng: np.random.Generator | None = None
) -> Exposures:
    """The exposures of the population's day."""
    if rng is None:
        rng = stream(config.seed, "exposures", population.day)
    rows = config.rows_per_day
    requests = -(-rows // SLATE)
    users = population.users
    user = _weighted(rng, users.activity_N, requests)
    time_ms = _times(rng, requests)
    device = users.device_N[user]
    other = rng.random(requests) >= _USUAL_DEVICE_SHARE
    device = np.where(other, rng.integers(len(DEVICES), size=requests), device)
    country = users.country_N[user]
    travels = rng.random(requests) < _TRAVELLING_SHARE
    country = np.where(travels, rng.integers(len(COUNTRIES), size=requests), country)
    request = np.repeat(np.arange(requests), SLATE)[:rows]
    return Exposures(
        user_B=user[request],
        item_B=_weighted(rng, population.exposure_weights(), rows),
        country_B=country[request],
        device_B=device[request],
        hour_B=time_ms[request] // HOUR_MS,
        pos_B=np.arange(rows) % SLATE,
        request_B=request,
        time_ms_B=time_ms[request],
    )


def _weighted(rng: np.random.Generator, weights: Floats, count: int) -> Ints:
    cumulated = np.cumsum(weights)
    # the last entry takes a draw that rounding puts beyond the end
    found = np.searchsorted(cumulated, cumulated[-1] * rng.random(count), side="right")
    return np.minimum(found, len(weights) - 1)


def _times(rng: np.random.Generator, count: int) -> Ints:
    """Strictly rising: with two requests in one ms, "before" would not say which one knew what."""
    cumulated = np.concatenate([[0.0], np.cumsum(_HOUR_SHARES / _HOUR_SHARES.sum())])
    hours = np.interp(rng.random(count), cumulated, np.arange(25))
    return np.sort((hours / 24 * (DAY_MS - count)).astype(np.int64)) + np.arange(count)
