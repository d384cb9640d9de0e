"""Cold items, drift, and the dial that sets the tasks against each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from data_pipelines.synthetic.exposures import draw_exposures
from data_pipelines.synthetic.population import DRIFT_SIGMA, Population, factor_correlation
from data_pipelines.synthetic.preferences import (
    draw_coefficients,
    factor_scores,
    true_probabilities,
)
from marigold_rec.config.data import SyntheticConfig
from tests.data_pipelines.synthetic.logs import Log


def test_cold_items_and_users_come_day_by_day(log: Log) -> None:
    rows = log.rows
    first_day = rows.groupby("item_id").day.min()
    birth_day = (rows.day - (rows.item_age_h // 24)).groupby(rows.item_id).min()
    assert (rows.item_age_h >= 0).all()  # none is shown before its birth
    assert (first_day >= birth_day).all()
    for day in (1, 2, 3):
        born = birth_day[birth_day == day]
        assert len(born) >= 0.8 * log.config.cold_share * log.config.items
        assert rows.item_id[rows.day == day].isin(born.index).mean() > 0.01
    population = Population(log.config)
    counts = []
    for _ in range(3):
        counts.append((len(population.users.id_N), len(population.items.id_N)))
        population.advance()
    assert counts == [(3000, 800), (3060, 816), (3120, 832)]


def test_old_entities_keep_their_place() -> None:
    config = SyntheticConfig(users=50, items=40)
    population = Population(config)
    users, items = population.users.id_N, population.items.id_N
    for _ in range(5):
        population.advance()
    assert (population.users.id_N[:50] == users).all()
    assert (population.items.id_N[:40] == items).all()
    assert len(np.unique(population.items.id_N)) == len(population.items.id_N) > 40


def test_popularity_drifts() -> None:
    population = Population(SyntheticConfig(items=5_000, seed=9))
    log_weight, drift = [], []
    for _ in range(4):
        log_weight.append(np.log(population.exposure_weights()[:5_000]))
        drift.append(population.items.drift_N[:5_000])
        population.advance()
    for kept, later in enumerate(drift):
        assert later.std() == pytest.approx(DRIFT_SIGMA, abs=0.03)  # it neither dies nor explodes
        assert np.corrcoef(drift[0], later)[0, 1] == pytest.approx(0.8**kept, abs=0.03)
    near, far = (np.corrcoef(log_weight[0], log_weight[day])[0, 1] for day in (1, 3))
    assert far < near - 0.02


def test_drift_shows_in_the_log(log: Log) -> None:
    """Items' shares of the exposures change by more than sampling explains."""
    counts = log.rows.groupby(["item_id", "day"]).size().unstack(fill_value=0)
    old = counts[counts[0] >= 30]
    z = (old[3] - old[0]) / np.sqrt(old[3] + old[0])
    assert z.std() > 2


@pytest.mark.parametrize("conflict", [0.0, 1 / 3, 0.7, 1.0])
def test_conflict_sets_the_correlation_of_the_factors(conflict: float) -> None:
    config = SyntheticConfig(users=20_000, items=8_000, conflict=conflict, seed=2)
    population = Population(config)
    rng = np.random.default_rng(0)
    user, item = rng.integers(20_000, size=200_000), rng.integers(8_000, size=200_000)
    click, conversion, watch = factor_scores(population, user, item)
    expected = 0.5 - 1.5 * conflict
    assert factor_correlation(conflict) == pytest.approx(expected)
    assert np.corrcoef(click, conversion)[0, 1] == pytest.approx(expected, abs=0.03)
    assert np.corrcoef(click, watch)[0, 1] == pytest.approx(0.6, abs=0.1)  # not touched


def test_conflict_changes_neither_clicks_nor_rates() -> None:
    clicks, rates, correlations = [], [], []
    for conflict in (0.0, 0.5, 1.0):
        config = SyntheticConfig(rows_per_day=20_000, conflict=conflict, seed=4)
        population = Population(config)
        shown = draw_exposures(population, config)
        truth = true_probabilities(population, shown, draw_coefficients(config, population))
        clicks.append(truth.click_B)
        rates.append(np.average(truth.conversion_B, weights=truth.click_B))
        correlations.append(np.corrcoef(logit(truth.click_B), logit(truth.conversion_B))[0, 1])
    assert (clicks[0] == clicks[1]).all()
    assert (clicks[0] == clicks[2]).all()
    assert rates == pytest.approx([0.25] * 3, abs=0.01)
    assert correlations[0] > 0.3
    assert correlations[2] < -0.4
    assert correlations[0] > correlations[1] > correlations[2]
