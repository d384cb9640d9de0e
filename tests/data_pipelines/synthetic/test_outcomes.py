"""What the log holds happens as often as its truth says. Fixed seed; limits at 4 sigmas or more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from tests.data_pipelines.synthetic.logs import Log


def _z_scores(label: pd.Series, p: pd.Series, groups: pd.Series) -> np.ndarray:
    frame = pd.DataFrame({"gap": label - p, "variance": p * (1 - p), "group": groups})
    sums = frame.groupby("group")[["gap", "variance"]].sum()
    return (sums.gap / np.sqrt(sums.variance)).to_numpy()


def _groups(rows: pd.DataFrame, p: pd.Series) -> list[pd.Series]:
    deciles = pd.qcut(p, 10, labels=False)
    return [deciles, rows.day, rows.category, rows.age_group, rows.pos, rows.country, rows.hour]


def test_clicks_follow_their_probability(log: Log) -> None:
    p = log.truth.p_click
    for groups in _groups(log.rows, p):
        assert np.abs(_z_scores(log.rows.click, p, groups)).max() < 4.5
    assert p.min() < 0.03
    assert p.max() > 0.8


def test_conversions_follow_their_probability(log: Log) -> None:
    clicked = log.rows[log.rows.click == 1]
    p = log.truth.p_conversion_given_click[clicked.index]
    for groups in _groups(clicked, p):
        assert np.abs(_z_scores(clicked.conversion, p, groups)).max() < 4.5


def test_rates_of_the_first_day_are_as_asked(log: Log) -> None:
    first = log.rows.day == 0
    clicked = first & (log.rows.click == 1)
    assert log.truth.p_click[first].mean() == pytest.approx(log.config.click_rate, abs=0.01)
    conversion = log.truth.p_conversion_given_click[clicked].mean()
    assert conversion == pytest.approx(log.config.conversion_rate, abs=0.015)


def test_watch_time_ends_with_the_item(log: Log) -> None:
    watched = log.rows[log.rows.click == 1]
    assert (watched.watch_time_s <= watched.duration_s).all()
    assert (watched.watch_time_s > 0).all()
    assert ((watched.watch_time_s == watched.duration_s) == (watched.watch_censored == 1)).all()
    assert 0.1 < watched.watch_censored.mean() < 0.5


def test_watch_time_follows_its_moments(log: Log) -> None:
    clicked = log.rows.click == 1
    seconds, truth = log.rows.watch_time_s[clicked].astype(float), log.truth[clicked]
    logs = seconds.map(np.log1p)
    surprise = (logs - truth.watch_log1p_mean) ** 2
    for gap in (
        seconds - truth.expected_watch_s,
        logs - truth.watch_log1p_mean,
        surprise - truth.watch_log1p_var,
    ):
        for _, part in gap.groupby(pd.qcut(truth.watch_log_mean, 5, labels=False)):
            assert abs(part.mean()) < 4 * part.std() / np.sqrt(len(part))


def test_conversions_come_later(log: Log) -> None:
    converted = log.rows[log.rows.conversion == 1]
    delay_h = (converted.conversion_time_ms - converted.event_time_ms) / 3_600_000
    assert (delay_h > 0).all()
    scale = log.config.conversion_delay_h
    assert kstest(delay_h, "expon", args=(0, scale)).pvalue > 0.001


def test_label_known_at_a_cut_off_is_low_on_the_newest_day(log: Log) -> None:
    """The rule of the package's docstring, and by how much a naive nightly is biased."""
    rows = log.rows[(log.rows.day == 3) & (log.rows.click == 1)]
    cut_off = int(pd.Timestamp("2024-01-05").timestamp() * 1000)
    known = (rows.conversion_time_ms <= cut_off).astype(float)
    age_h = (cut_off - rows.event_time_ms) / 3_600_000
    p = log.truth.p_conversion_given_click[rows.index]
    matured = p * (1 - np.exp(-age_h / log.config.conversion_delay_h))
    assert np.abs(_z_scores(known, matured, age_h // 6)).max() < 4
    assert known.mean() < 0.75 * rows.conversion.mean()
    assert (known <= rows.conversion).all()
