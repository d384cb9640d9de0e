"""configs/ctr_cvr.yaml fits the log that it trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipelines.synthetic import FIRST_DATE
from data_pipelines.synthetic.columns import day_date
from marigold_rec.config import Config, load_config
from marigold_rec.config.features import DenseFeature, IdFeature, VocabFeature
from tests.data_pipelines.synthetic.logs import Log


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(Path(__file__).parents[3] / "configs" / "ctr_cvr.yaml")


def test_every_column_is_there(config: Config, log: Log) -> None:
    tasks = {name for task in config.tasks for name in (task.label, task.observed_if) if name}
    assert {c for feature in config.features for c in feature.columns} | tasks <= set(
        log.rows.columns
    )


def test_outcomes_are_no_features(config: Config) -> None:
    outcomes = {"click", "conversion", "conversion_time_ms", "watch_time_s", "watch_censored"}
    assert not {c for feature in config.features for c in feature.columns} & outcomes


def test_ids_and_words_are_in_range(config: Config, log: Log) -> None:
    for feature in config.features:
        if isinstance(feature, IdFeature):
            found = log.rows[feature.source]
            assert (found.min(), found.max()) == (0, (feature.rows or 0) - 1), feature.name
        if isinstance(feature, VocabFeature):
            assert set(log.rows[feature.source]) == set(feature.values)


def test_dense_features_are_about_standard(config: Config, log: Log) -> None:
    for feature in config.features:
        if isinstance(feature, DenseFeature):
            assert feature.transform == "log1p"
            assert feature.standardize is not None
            x = np.log1p(log.rows[feature.source].to_numpy(np.float64))
            z = (x - feature.standardize.mean) / feature.standardize.std
            # this log has more rows per user and item than the default one
            assert abs(z.mean()) < 2, feature.name
            assert 0.5 < z.std() < 2, feature.name


def test_dates_are_the_default_days(config: Config) -> None:
    assert config.data.path is None
    assert config.data.eval is not None
    train, evaluation = config.data.train.dates, config.data.eval.dates
    assert train is not None
    assert evaluation is not None
    assert train[0] == FIRST_DATE
    assert evaluation[1] == day_date(config.data.synthetic.days - 1)


def test_tables_mix_the_ways_of_sharding(config: Config) -> None:
    tables = {table.name: table for table in config.tables}
    assert tables["item"].features == ("item", "history")
    assert tables["item"].pooling == "mean"
    ways = {config.sharding.tables.get(name, config.sharding.default) for name in tables}
    assert ways == {"row_wise", "table_wise"}
