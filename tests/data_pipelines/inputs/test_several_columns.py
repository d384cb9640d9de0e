"""Findings about features that read several columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.inputs import InputTally
from marigold_rec.config import Config

_ROWS = 400
_TABLE = pa.table(
    {
        "click": np.arange(_ROWS) % 3 == 0,
        "item": pa.array(np.arange(_ROWS) * 1000),
        "history": pa.array([[5], [3, 7]] * (_ROWS // 2)),
        "half": pa.array([None, "a"] * (_ROWS // 2)),
    }
)


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (
            {"kind": "overlap", "item": "item", "list": "history", "gives": "nearest",
             "missing": 9e6},
            ("columns 'item' and 'history'", "reaches 398,993", "e.g. 993 and", "set standardize"),
        ),
        (
            {"kind": "overlap", "item": "item", "list": "history"},
            ("columns 'item' and 'history'", "is 0 in all 400 rows"),
        ),
        (
            {"kind": "cross", "of": ["item", "half"], "rows": 100, "dim": 4},
            ("columns 'item' and 'half'", "missing in 200 of 400 rows"),
        ),
    ],
)  # fmt: skip
def test_both_columns_are_named(feature: dict[str, Any], said: tuple[str, ...]) -> None:
    tasks = [{"name": "ctr", "kind": "binary", "label": "click"}]
    config = Config.model_validate({"features": [{"name": "x", **feature}], "tasks": tasks})
    tally = InputTally(config, None)
    tally.add(_TABLE)
    assert set(tally.columns) == {"click", *config.features[0].columns}
    [warning] = tally.checks(_ROWS, 1).values
    for text in said:
        assert text in warning
