from __future__ import annotations

import pytest

from marigold_rec.config.data import SyntheticConfig
from tests.data_pipelines.synthetic.logs import Log, made_log


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Four days of 30,000 rows, enough for tests of frequencies."""
    config = SyntheticConfig(days=4, rows_per_day=30_000, users=3_000, items=800, seed=3)
    return made_log(config, tmp_path_factory.mktemp("synthetic") / "log")


@pytest.fixture(scope="session")
def tiny_log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Few users and items, so that histories overflow; rows don't fill the last request."""
    config = SyntheticConfig(
        days=3, rows_per_day=1_003, users=30, items=20, seed=5, cold_share=0.1, click_rate=0.4
    )
    return made_log(config, tmp_path_factory.mktemp("synthetic") / "tiny")
