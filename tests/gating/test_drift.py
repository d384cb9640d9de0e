"""The population stability index, and the rule that is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.profile.columns import ColumnTally
from marigold_rec.analysis.report import Histogram
from marigold_rec.config.gate import DriftLimits, GateConfig
from marigold_rec.gating import Check, Profile, Verdict, judge_data
from marigold_rec.gating.psi import histogram_psi, numbers_psi, psi, values_psi
from marigold_rec.profile import ColumnProfile, Role
from tests.gating.made import category, night, number

MANY = 10**9
"""So many values that chance and half a count are nothing."""


def profiled(values: Any, role: Role = "category") -> ColumnProfile:
    array = pa.array(values)
    tally = ColumnTally(array.type)
    tally.add(array)
    return tally.profile((role,))


def test_the_formula():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    by_hand = (0.2 - 0.3) * np.log(0.2 / 0.3) + (0.5 - 0.4) * np.log(0.5 / 0.4)
    assert psi(p, q, MANY, MANY) == pytest.approx(by_hand, rel=1e-6)
    assert psi(q, p, MANY, MANY) == pytest.approx(by_hand, rel=1e-6)
    assert psi(p, p, 10, MANY) < 0.2


def test_an_empty_bin_is_finite_and_of_few_values_says_little():
    p, q = np.array([0.95, 0.05]), np.array([1.0, 0.0])
    large, small = psi(p, q, MANY, MANY), psi(p, q, 20, 20)
    # As if the empty bin had the smallest share that counts.
    assert large == pytest.approx(0.05 * np.log(0.95) * -1 + 0.049 * np.log(50), rel=0.02)
    assert small < large / 5


def test_samples_of_one_distribution_are_calm():
    """From the smallest that the rule looks at."""
    rng = np.random.default_rng(1)
    found = []
    for size in (1000, 3000, 10_000) * 20:
        one, other = (profiled(rng.lognormal(size=size), "number") for _ in range(2))
        assert one.numbers is not None
        assert other.numbers is not None
        found.append(numbers_psi(one.numbers, other.numbers))
    assert np.max(found) < 0.05
    assert np.median(found) < 0.01


@pytest.mark.parametrize("shift", [0.1, 0.3, 1.0])
def test_numbers_against_the_closed_form(shift: float):
    """Two normal distributions: Jeffreys' divergence is shift ** 2; ten bins find most of it."""
    rng = np.random.default_rng(2)
    one, other = (profiled(rng.normal(at, 1, 100_000), "number").numbers for at in (shift, 0.0))
    assert one is not None
    assert other is not None
    assert 0.85 * shift**2 < numbers_psi(one, other) < 1.02 * shift**2


def test_steps_of_discrete_numbers_are_no_drift():
    rng = np.random.default_rng(3)
    one, other = (profiled(rng.poisson(0.7, 50_000), "number").numbers for _ in range(2))
    assert one is not None
    assert other is not None
    assert numbers_psi(one, other) < 0.002


def test_values_by_name_where_all_are_listed():
    one, other = category({"a": 0.7, "b": 0.3}), category({"b": 0.7, "a": 0.3})
    assert one.values is not None
    assert other.values is not None
    assert values_psi(one.values, other.values) == pytest.approx(2 * 0.4 * np.log(7 / 3), rel=1e-3)


def test_ids_by_how_concentrated_they_are():
    """Other articles each day are no drift; one that has half of the rows is."""
    rng = np.random.default_rng(4)
    # As articles are read: the first of them has a tenth of the clicks.
    frequent = 1 / np.arange(1, 5001)
    ranks = rng.choice(5000, (3, 30_000), p=frequent / frequent.sum())
    one, other = profiled(ranks[0]), profiled(ranks[1] + 10**6)
    ids = ranks[2]
    ids[:15_000] = 7
    hot = profiled(ids)
    assert one.values is not None
    assert other.values is not None
    assert hot.values is not None
    assert values_psi(one.values, other.values) < 0.01
    assert values_psi(hot.values, one.values) > 0.25


def test_histograms_of_other_edges():
    rng = np.random.default_rng(5)

    def histogram(scores: Any, bins: int) -> Histogram:
        counts, edges = np.histogram(scores, bins=bins, range=(0, 1))
        return Histogram(
            edges=tuple(edges.tolist()),
            positives=tuple((counts * 0.25).tolist()),
            negatives=tuple((counts * 0.75).tolist()),
        )

    one, other = (rng.beta(2, 6, 200_000) for _ in range(2))
    calm = histogram_psi(histogram(one, 50), histogram(other, 41))
    moved = histogram_psi(histogram(np.clip(1.3 * one, 0, 1), 50), histogram(other, 41))
    assert calm is not None
    assert moved is not None
    assert calm < 0.01
    assert moved > 0.1
    assert histogram_psi(histogram([], 50), histogram(other, 41)) is None


def drifts(verdict: Verdict, about: str) -> Check:
    found = [c for c in verdict.checks if (c.rule, c.about) == ("drift.max_psi", about)]
    assert len(found) == 1
    return found[0]


def judged(today: Profile, before: list[Profile], **drift: Any) -> Verdict:
    return judge_data(GateConfig(drift=DriftLimits(**drift)), today, before)


def of(day: int, column: ColumnProfile, name: str = "country") -> Profile:
    return night(day, columns={name: column})


CALM = [of(day, category({"a": 0.5, "b": 0.5})) for day in range(5)]


@pytest.mark.parametrize(("share", "result"), [(0.739, "passed"), (0.742, "failed")])
def test_the_limit(share: float, result: str):
    """PSI .25 lies at .7404: 2 (x - .5) ln(x / (1 - x)) / 2."""
    today = of(5, category({"a": share, "b": 1 - share}))
    check = drifts(judged(today, CALM), "country")
    assert check.result == result
    assert check.limit_high == 0.25
    assert check.found == pytest.approx((share - 0.5) * np.log(share / (1 - share)), rel=1e-3)


def test_the_nearest_night_counts():
    """A weekend is like the last weekend."""
    weekend = category({"a": 0.9, "b": 0.1})
    before = [*CALM, of(5, weekend), of(6, weekend)]
    check = drifts(judged(of(12, weekend), before), "country")
    assert check.result == "passed"
    assert check.found == 0.0


def test_what_changes_every_day_may_change():
    before = [of(day, category({"a": x, "b": 1 - x})) for day, x in enumerate((0.3, 0.5, 0.7))]
    today = of(3, category({"a": 0.92, "b": 0.08}))
    assert drifts(judged(today, before), "country").result == "passed"
    check = drifts(judged(today, before, times_usual=1.0), "country")
    assert check.result == "failed"
    assert "PSI" in check.sentence
    assert "most frequent is a (92.0%), the night before a (70.0%)" in check.sentence


def test_a_number_in_another_unit_is_named():
    before = [of(day, number(10.0), "price") for day in range(3)]
    check = drifts(judged(of(3, number(0.01), "price"), before), "price")
    assert check.result == "failed"
    assert "its mean is 0.01, and was 10 the night before" in check.sentence


def test_lengths_of_lists_count_too():
    def history(length: float) -> ColumnProfile:
        lengths = number(length).numbers
        return category({"1": 0.5, "2": 0.5}, type="list", lengths=lengths)

    before = [of(day, history(5.0)) for day in range(3)]
    assert drifts(judged(of(3, history(5.0)), before), "country").result == "passed"
    assert drifts(judged(of(3, history(1.0)), before), "country").result == "failed"


@pytest.mark.parametrize(
    ("today", "before"),
    [
        (of(5, category({"a": 1.0}, 999)), CALM),
        (of(5, category({"a": 0.9, "b": 0.1})), CALM[:1]),
        (of(2, category({"c": 1.0})), [of(d, category({x: 1.0})) for d, x in enumerate("ab")]),
        (of(5, category({"a": 0.9, "b": 0.1})), [of(4, category({"a": 0.5, "b": 0.5}, 999))] * 2),
    ],
    ids=["few values", "one night", "one value each night", "nights of few values"],
)
def test_where_nothing_can_be_said(today: Profile, before: list[Profile]):
    verdict = judged(today, before)
    assert drifts(verdict, "country").result == "not_judged"


def test_it_can_be_switched_off_for_a_column_or_for_all():
    today = of(5, category({"a": 0.9, "b": 0.1}))
    assert not judged(today, CALM).publish
    assert judged(today, CALM, ignore=("country",)).publish
    assert judged(today, CALM, max_psi=None).publish
