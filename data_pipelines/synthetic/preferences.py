"""The truth: how likely each exposure is clicked, converts, and how long it is watched.

Shapes: B rows, 3 outcomes in the order click, conversion, watch time.

Each outcome has a score: user bias + item bias + <user factors, item factors> + contexts. The
click score also moves with the item's drift: what is popular today is clicked more today.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import expit

from data_pipelines.synthetic.exposures import SLATE, Exposures, draw_exposures
from data_pipelines.synthetic.population import (
    COUNTRIES,
    DEVICES,
    DRIFT_SIGMA,
    FACTORS,
    Population,
)
from data_pipelines.synthetic.random_streams import Floats, Ints, stream
from marigold_rec.config.data import SyntheticConfig

# Standard deviations of the parts of a score, by outcome (click, conversion, watch time)
_USER = np.array([0.5, 0.5, 0.35])
_ITEM = np.array([0.75, 0.65, 0.35])
_MATCH = np.array([0.65, 0.6, 0.2])
_DEVICE = np.array([0.4, 0.45, 0.15])
_COUNTRY = np.array([0.25, 0.3, 0.1])
_HOUR = np.array([0.2, 0.2, 0.05])
_DRIFT = 0.3
_POS = 0.4
_WATCH_BASE = 1.3
_WATCH_DURATION = 0.6  # log T per log duration: longer items are watched longer, but not in full
_CALIBRATION_ROWS = 50_000


@dataclass(frozen=True)
class Probabilities:
    """Bayes-optimal predictions; given its row, no outcome depends on any other row."""

    click_B: Floats
    conversion_B: Floats  # given a click, in the end
    watch_mu_B: Floats  # of log T, given a click


@dataclass(frozen=True)
class Coefficients:
    """Effects of the contexts per outcome, and the intercepts that give the asked-for rates."""

    device_D3: Floats
    country_C3: Floats
    hour_H3: Floats
    pos_P: Floats
    click_intercept: float = 0.0
    conversion_intercept: float = 0.0

    def as_lists(self) -> dict[str, object]:
        return {k: np.asarray(v).tolist() for k, v in asdict(self).items()}


def draw_coefficients(config: SyntheticConfig, population: Population) -> Coefficients:
    """`population` stands at day 0; the rates hold in expectation over that day's exposures."""
    rng = stream(config.seed, "contexts")
    phase_3 = rng.uniform(0, 24, 3)
    hours_H3 = np.cos(2 * np.pi * (np.arange(24)[:, None] - phase_3) / 24)
    raw = Coefficients(
        device_D3=_DEVICE * _effects(rng, len(DEVICES)),
        country_C3=_COUNTRY * _effects(rng, len(COUNTRIES)),
        hour_H3=_HOUR * np.sqrt(2) * hours_H3,
        pos_P=-_POS * (np.arange(SLATE) - (SLATE - 1) / 2) / np.arange(SLATE).std(),
    )
    sample = config.model_copy(update={"rows_per_day": _CALIBRATION_ROWS})
    shown = draw_exposures(population, sample, stream(config.seed, "calibration"))
    click_B, conversion_B, _ = _scores(population, shown, raw)
    click = _intercept(click_B, np.ones_like(click_B), config.click_rate)
    clicked_B = expit(click_B + click)
    conversion = _intercept(conversion_B, clicked_B, config.conversion_rate)
    return Coefficients(raw.device_D3, raw.country_C3, raw.hour_H3, raw.pos_P, click, conversion)


def true_probabilities(
    population: Population, shown: Exposures, coefficients: Coefficients
) -> Probabilities:
    click_B, conversion_B, watch_B = _scores(population, shown, coefficients)
    log_duration_B = np.log(population.items.duration_s_N[shown.item_B])
    return Probabilities(
        click_B=expit(click_B + coefficients.click_intercept),
        conversion_B=expit(conversion_B + coefficients.conversion_intercept),
        watch_mu_B=_WATCH_BASE + _WATCH_DURATION * log_duration_B + watch_B,
    )


def factor_scores(population: Population, user_B: Ints, item_B: Ints) -> tuple[Floats, ...]:
    """The parts of the three scores that come from latent factors and biases."""
    users, items = population.users, population.items
    own_B3 = _USER * users.bias_N3[user_B] + _ITEM * items.bias_N3[item_B]
    factor_BF = items.factor_NF[item_B] / np.sqrt(FACTORS)
    click_B = np.einsum("bf,bf->b", users.click_factor_NF[user_B], factor_BF)
    conversion_B = np.einsum("bf,bf->b", users.conversion_factor_NF[user_B], factor_BF)
    matches = (click_B, conversion_B, click_B)
    return tuple(own_B3[:, k] + _MATCH[k] * match_B for k, match_B in enumerate(matches))


def _scores(
    population: Population, shown: Exposures, coefficients: Coefficients
) -> tuple[Floats, Floats, Floats]:
    context_B3 = (
        coefficients.device_D3[shown.device_B]
        + coefficients.country_C3[shown.country_B]
        + coefficients.hour_H3[shown.hour_B]
    )
    click_B, conversion_B, watch_B = (
        factors_B + context_B3[:, k]
        for k, factors_B in enumerate(factor_scores(population, shown.user_B, shown.item_B))
    )
    drift_B = population.items.drift_N[shown.item_B] / DRIFT_SIGMA
    return click_B + coefficients.pos_P[shown.pos_B] + _DRIFT * drift_B, conversion_B, watch_B


def _effects(rng: np.random.Generator, values: int) -> Floats:
    effects_V3 = rng.standard_normal((values, 3))
    effects_V3 -= effects_V3.mean(axis=0)
    return effects_V3 / effects_V3.std(axis=0)


def _intercept(score_B: Floats, weight_B: Floats, rate: float) -> float:
    """The intercept at which the weighted mean probability is `rate`, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = np.average(expit(score_B + middle), weights=weight_B)
        low, high = (middle, high) if mean < rate else (low, middle)
    return (low + high) / 2
