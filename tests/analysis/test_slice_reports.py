"""Slices: their figures are those of their rows, false alarms are rare, a bad slice comes first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import false_discovery_control
from sklearn.metrics import log_loss, roc_auc_score

from marigold_rec.analysis import slice_reports as module
from marigold_rec.analysis.binary import binary_estimates
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.figures import estimates
from marigold_rec.analysis.report import Slice
from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.slice_reports import TaskRows, slice_reports, worst_first
from marigold_rec.analysis.slicing import Slicing
from marigold_rec.metrics import headline_of


def _draw(generator: np.random.Generator, num_users: int) -> Rows:
    """Rows of one user share a mood that the scores don't know."""
    user = np.repeat(np.arange(num_users), generator.integers(1, 6, num_users)).astype(np.int32)
    known = generator.normal(-1.5, 1.2, len(user))
    mood = generator.normal(0, 0.7, num_users)[user]
    label = generator.random(len(user)) < expit(known + mood)
    return Rows(expit(known).astype(np.float32), label.astype(np.float32), user_N=user)


def _with_noise(generator: np.random.Generator, rows: Rows) -> Rows:
    noisy = logit(rows.score_N.astype(np.float64)) + generator.normal(0, 0.5, len(rows))
    return rows.with_scores(expit(noisy).astype(np.float32))


def _slicing(code: NDArray[np.intp], num_values: int = 0) -> Slicing:
    values = tuple(f"v{i}" for i in range(num_values or int(code.max()) + 1))
    return Slicing("random", code.astype(np.int32), values)


def _reports(
    rows: Rows, *slicings: Slicing, old: Rows | None = None, which: NDArray[np.intp] | None = None
) -> tuple[Slice, ...]:
    kind = "binary" if rows.label_N.max() <= 1 else "duration"
    which = np.arange(len(rows)) if which is None else which
    whole = estimates(kind, rows)[headline_of(kind)]
    task = TaskRows("task", kind, rows, old, which)
    return worst_first(slice_reports(task, whole, slicings, confidence=0.95))


def test_figures_are_those_of_the_rows() -> None:
    generator = np.random.default_rng(0)
    rows = _draw(generator, 400)
    rows = replace(rows, weight_N=generator.integers(1, 4, len(rows)).astype(np.float32))
    old = _with_noise(generator, rows)
    code = generator.integers(0, 3, 2 * len(rows))
    which = np.sort(generator.permutation(len(code))[: len(rows)])  # the others are not observed
    found = _reports(rows, _slicing(code), old=old, which=which)
    assert {s.value for s in found} == {"v0", "v1", "v2"}
    for s in found:
        chosen = code[which] == int(s.value[1:])
        label, score = rows.label_N[chosen], rows.score_N[chosen].astype(np.float64)
        weight, before = rows.weights[chosen], old.score_N[chosen]
        auc, old_auc = (roc_auc_score(label, x, sample_weight=weight) for x in (score, before))
        assert s.rows == chosen.sum()
        assert s.positives == label.sum()
        assert rows.user_N is not None
        assert s.users == pd.Series(rows.user_N[chosen]).nunique()
        assert s.figures["auc"].value == pytest.approx(auc, rel=1e-9)
        assert s.figures["auc"].baseline == pytest.approx(old_auc, rel=1e-9)
        expected = log_loss(label, score, sample_weight=weight)
        assert s.figures["log_loss"].value == pytest.approx(expected, rel=1e-6)
        assert (s.metric, s.against) == ("auc", "baseline")
        assert s.difference == pytest.approx(auc - old_auc, rel=1e-9)
        assert s.difference == s.figures["auc"].delta
        assert s.p_value == s.figures["auc"].p_value


def test_users_of_a_slice_are_numbered_anew_and_found_again() -> None:
    """The pairing with all rows is by user: the numbers of users may not change anything."""
    generator = np.random.default_rng(1)
    rows = _draw(generator, 300)
    assert rows.user_N is not None
    code = generator.integers(0, 2, len(rows))
    found = _reports(rows, _slicing(code))
    other = generator.permutation(5000)[: int(rows.user_N.max()) + 1].astype(np.int32)
    again = _reports(rows.with_users(other[rows.user_N]), _slicing(code))
    for s, t in zip(found, again, strict=True):
        assert s.value == t.value
        assert s.p_value == pytest.approx(t.p_value, rel=1e-9)
        assert s.figures["auc"].standard_error == pytest.approx(
            t.figures["auc"].standard_error, rel=1e-9
        )


def test_the_difference_to_all_rows_varies_as_a_bootstrap_of_users() -> None:
    generator = np.random.default_rng(2)
    rows = _draw(generator, 500)
    code = generator.integers(0, 2, len(rows))
    [s] = [s for s in _reports(rows, _slicing(code)) if s.value == "v0"]
    assert rows.user_N is not None
    differences = []
    for _ in range(300):
        times = np.bincount(generator.integers(0, 500, 500), minlength=500)[rows.user_N]
        seen = times > 0
        drawn = replace(rows.take(seen), weight_N=times[seen].astype(np.float32))
        parts = (drawn, drawn.take(code[seen] == 0))
        whole, part = (binary_estimates(x)["auc"].value for x in parts)
        assert whole is not None
        assert part is not None
        differences.append(part - whole)
    assert s.difference_high is not None
    assert s.difference_low is not None
    se = (s.difference_high - s.difference_low) / (2 * 1.96)
    assert se == pytest.approx(np.std(differences), rel=4 / np.sqrt(2 * 300))


def test_an_interval_holds_0_just_where_p_says_so() -> None:
    generator = np.random.default_rng(3)
    rows = _draw(generator, 2000)
    found = _reports(rows, _slicing(generator.integers(0, 40, len(rows))))
    assert any(s.p_value is not None and s.p_value < 0.05 for s in found), "a test of both"
    for s in found:
        if s.p_value is not None:
            assert s.difference_low is not None
            assert s.difference_high is not None
            assert s.difference is not None
            assert s.difference_low < s.difference < s.difference_high
            assert (s.p_value < 0.05) == (not s.difference_low <= 0 <= s.difference_high)


def test_a_slice_of_all_rows_differs_by_nothing() -> None:
    rows = _draw(np.random.default_rng(4), 300)
    [s] = _reports(rows, _slicing(np.zeros(len(rows), np.intp)))
    assert s.difference == 0
    assert s.p_value == s.q_value == 1


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("spread", ["even", "few large, many small"])
def test_false_alarms_are_rare(
    monkeypatch: pytest.MonkeyPatch, baseline: bool, spread: str
) -> None:
    """40 values that mean nothing: a report calls any of them different in about 5 % of cases."""
    monkeypatch.setattr(  # 200 repetitions of all figures would take minutes
        module, "estimates", lambda _kind, rows: {"auc": binary_estimates(rows)["auc"]}
    )
    generator = np.random.default_rng(5)
    share = np.ones(40) if spread == "even" else 1 / np.arange(1, 41)
    num_repetitions = 200
    alarms = tested = significant = 0
    for _ in range(num_repetitions):
        rows = _draw(generator, 1500)
        old = None
        if baseline:
            rows, old = _with_noise(generator, rows), _with_noise(generator, rows)
        code = generator.choice(40, len(rows), p=share / share.sum())
        task = TaskRows("task", "binary", rows, old, np.arange(len(rows)))
        whole = binary_estimates(rows)["auc"]
        found = worst_first(slice_reports(task, whole, [_slicing(code, 40)], confidence=0.95))
        p_values = [s.p_value for s in found if s.p_value is not None]
        alarms += any(s.q_value is not None and s.q_value < 0.05 for s in found)
        tested += len(p_values)
        significant += sum(p < 0.05 for p in p_values)
    assert alarms / num_repetitions <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / num_repetitions)
    assert 0.04 <= significant / tested <= 0.06
    assert tested / num_repetitions > 12


@pytest.mark.parametrize("baseline", [False, True])
def test_a_planted_bad_slice_comes_first(baseline: bool) -> None:
    generator = np.random.default_rng(6)
    rows = _draw(generator, 4000)
    code = generator.integers(0, 40, len(rows))
    score = rows.score_N.copy()
    bad, good = code == 17, code == 23
    score[bad] = generator.permutation(score[bad])
    score[good] = np.clip(score[good] + 0.2 * rows.label_N[good], 0, 1)
    old = rows if baseline else None
    found = _reports(rows.with_scores(score), _slicing(code), old=old)
    assert found[0].value == "v17"
    assert found[0].q_value is not None
    assert found[0].q_value < 0.01
    tested = [s for s in found if s.p_value is not None]
    assert [s.difference for s in tested if s.difference is not None and s.difference < 0]
    if not baseline:
        # Not worse, but other rows: the surest first, whatever the sign.
        p_values = [s.p_value for s in tested if s.p_value is not None]
        assert p_values == sorted(p_values)
        return
    assert tested[-1].value == "v23", "the surest gain is the last of those that are tested"
    signs = [np.sign(s.difference or 0) for s in tested]
    assert signs == sorted(signs)


@pytest.mark.parametrize("users", [True, False])
def test_small_slices_are_shown_and_not_tested(users: bool) -> None:
    """19 positives, then 20; an AUC of 1 or 0 is no certainty."""
    rows = _draw(np.random.default_rng(7), 900)
    if not users:
        rows = replace(rows, user_N=None)
    code = np.zeros(len(rows), np.intp)
    positive, negative = np.flatnonzero(rows.label_N == 1), np.flatnonzero(rows.label_N == 0)
    if users:
        assert rows.user_N is not None
        [positive, negative] = [
            which[np.unique(rows.user_N[which], return_index=True)[1]]
            for which in (positive, negative)
        ]
    code[positive[:19]] = 1
    code[positive[19:39]] = 2
    code[negative[:40]] = 1
    code[negative[40:80]] = 2
    code[negative[80:99]] = 3
    code[positive[39:89]] = 3
    found = {s.value: s for s in _reports(rows, _slicing(code))}
    for value, is_tested in (("v1", False), ("v2", True), ("v3", False)):
        s = found[value]
        assert s.difference is not None
        assert (s.p_value is not None) == is_tested, value
        assert (s.difference_low is not None) == is_tested, value
    assert list(found)[-2:] == ["v3", "v1"], "those that are not tested are last, the largest first"


def test_a_perfect_slice_is_no_certainty() -> None:
    rows = _draw(np.random.default_rng(8), 900)
    code = np.zeros(len(rows), np.intp)
    code[np.flatnonzero(rows.label_N == 1)[:60]] = 1
    code[np.flatnonzero(rows.label_N == 0)[:60]] = 1
    score = np.where(code == 1, 0.4 + 0.2 * rows.label_N, rows.score_N).astype(np.float32)
    [s] = [s for s in _reports(rows.with_scores(score), _slicing(code)) if s.value == "v1"]
    assert s.figures["auc"].value == 1
    assert s.difference is not None
    assert s.difference > 0
    assert s.p_value is s.q_value is s.difference_low is None


def test_one_row_and_one_class() -> None:
    rows = _draw(np.random.default_rng(9), 200)
    code = (rows.label_N == 1).astype(np.intp)
    code[0] = 2
    for s in _reports(rows, _slicing(code, 5)):
        auc = s.figures["auc"]
        assert auc.value is None
        assert auc.reason is not None
        assert "labels are" in auc.reason
        assert s.difference is s.p_value is s.q_value is None
    assert len(_reports(rows, _slicing(code, 5))) == 3, "values without a row have no slice"


def test_seconds_are_tested_too() -> None:
    generator = np.random.default_rng(10)
    rows = _draw(generator, 300)
    label = generator.lognormal(3, 1, len(rows)).astype(np.float32)
    noisy = label * generator.lognormal(0, 1, len(rows))
    code = generator.integers(0, 3, len(rows))
    code[:10] = 3
    score = np.where(code == 2, generator.permutation(noisy), noisy).astype(np.float32)
    found = _reports(replace(rows, label_N=label, score_N=score), _slicing(code))
    assert found[0].value == "v2"
    assert found[0].metric == "xauc"
    assert found[0].positives is None
    assert found[-1].value == "v3"
    assert found[-1].p_value is None


def _slice(value: str, task: str, difference: float | None, p_value: float | None) -> Slice:
    return Slice(
        name="n", value=value, task=task, rows=5, users=None, positives=None, figures={},
        metric="auc", against="baseline", difference=difference, difference_low=None,
        difference_high=None, p_value=p_value, q_value=None,
    )  # fmt: skip


def test_q_values_are_over_all_tasks_and_the_order_is_by_certainty() -> None:
    given = [
        _slice("a", "ctr", 0.2, 0.001),
        _slice("b", "cvr", -0.1, 0.02),
        _slice("c", "ctr", None, None),
        _slice("d", "ctr", -0.01, 1e-30),
        _slice("e", "cvr", -0.3, 1e-20),
        _slice("f", "ctr", 0.0, 1.0),
        _slice("g", "cvr", 0.3, 0.4),
        _slice("h", "cvr", 0.5, None),
        _slice("i", "cvr", -0.2, 0.02),
    ]
    found = worst_first(given)
    assert [s.value for s in found] == list("deibfgach")
    p_values = [s.p_value for s in given if s.p_value is not None]
    expected = dict(zip([s.value for s in given if s.p_value is not None],
                        false_discovery_control(p_values), strict=True))  # fmt: skip
    assert {s.value: s.q_value for s in found if s.q_value is not None} == pytest.approx(expected)
    assert worst_first([]) == ()


def test_without_a_baseline_the_order_is_by_how_surely_slices_differ() -> None:
    given = [
        _slice("a", "ctr", 0.2, 1e-9),
        _slice("b", "cvr", -0.1, 0.02),
        _slice("c", "ctr", -0.01, 1e-30),
        _slice("d", "ctr", 0.0, 1.0),
        _slice("e", "cvr", 0.5, None),
    ]
    found = worst_first(of.model_copy(update={"against": "all rows"}) for of in given)
    assert [s.value for s in found] == list("cabde")


def test_estimates_without_influence_have_no_difference() -> None:
    rows = _draw(np.random.default_rng(11), 100)
    task = TaskRows("task", "binary", rows, None, np.arange(len(rows)))
    whole = Estimate(None, reason="none")
    [s] = slice_reports(task, whole, [_slicing(np.zeros(len(rows), np.intp))], confidence=0.95)
    assert s.difference is s.p_value is None
