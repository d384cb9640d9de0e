"""benchmarks/delayed_conversions.py, reduced: naive nights are biased low, matured ones are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_labels_that_mature_take_the_bias_away(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable, "benchmarks/delayed_conversions.py", "--nights=4", "--seeds=1",
            "--matures-h=48", "--rows-per-day=30000",
            f"--work={tmp_path / 'work'}", f"--results={tmp_path}",
        ],
        cwd=_ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=580,
        check=True,
    )  # fmt: skip
    nights = json.loads((tmp_path / "delayed_conversions.json").read_text())["nights"]
    last = {night["arm"]: night for night in nights if night["day"] == "2024-01-04"}
    # What is not there yet at midnight is some half of a day's conversions.
    assert last["naive"]["calibration"] < 0.6
    # Wide: a night of so few rows is some percent off with any labels.
    assert last["matured 48 h"]["calibration"] == pytest.approx(1, abs=0.12)
    # The new day's clicks are learned as well as by the naive nights.
    assert last["matured 48 h"]["ctr_auc"] > last["naive"]["ctr_auc"] - 0.005
    assert last["matured 48 h"]["rows"] > 1.9 * last["naive"]["rows"]
    assert "| matured 48 h |" in (tmp_path / "delayed_conversions.md").read_text()
