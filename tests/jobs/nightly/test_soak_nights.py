"""benchmarks/soak_nights.py, reduced: disturbed nights, redos and rollbacks end as undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak_nights import SEASON, soak


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nights_that_are_killed_and_stopped_end_undisturbed(tmp_path: Path) -> None:
    # Two nights, a rollback, and the second night again from its training.
    found = soak(tmp_path, events=8, seed=3, seconds=500, commands=SEASON[:4])
    assert found["identical"]
    assert sum(found["events"].values()) == 8
    assert found["commands"] % 4 == 0
