"""Damaged files and configs: refused in our words, or read right. benchmarks/fuzz.py runs more."""

from __future__ import annotations

import pytest

from tests.data_pipelines.fuzzing import HARMLESS, REFUSED, fuzz


@pytest.mark.parametrize(("kind", "count"), [("files", 300), ("configs", 200)])
def test_damage_is_refused_or_does_no_harm(kind: str, count: int):
    found = fuzz(kind, 0, count)
    assert found.failures == []
    assert sum(found.counts.values()) == count
    # Else the damage would prove little.
    assert found.counts[REFUSED] > count / 4
    assert found.counts[HARMLESS] > 0


# Seeds that found something once.
@pytest.mark.parametrize("seed", [101, 24043])
def test_it_stays_mended(seed: int):
    assert fuzz("files", seed, 1).failures == []


def test_a_crash_a_hang_and_a_traceback_are_noticed():
    """Else a fuzzer that finds nothing would prove nothing."""
    found = fuzz("own failures", 0, 6, timeout_s=8)
    assert found.counts == {HARMLESS: 3, "crash": 1, "hang": 1, "traceback": 1}
    assert found.failures[0].startswith("own failures seed 1: crash: exit code -11")
    assert found.failures[2].endswith("traceback: ZeroDivisionError: a bug")
