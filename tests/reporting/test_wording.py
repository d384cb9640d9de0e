"""Numbers and names as text; verdicts that follow from them."""

from __future__ import annotations

import pytest

from marigold_rec.analysis.report import Figure
from marigold_rec.metrics import headline_metric, in_order, main_metrics, metric_of
from marigold_rec.reporting.markdown import escaped
from marigold_rec.reporting.training_pictures import smoothed, thinned
from marigold_rec.reporting.verdicts import difference_word
from marigold_rec.reporting.whiskers import WIDTH, whisker, whisker_scales
from marigold_rec.reporting.wording import (
    figure_sentence,
    number,
    p_equals,
    shown,
    signed,
    signed_interval,
)
from tests.reporting.example import example


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.71234, "auc", "0.7123"),
        (None, "auc", "\u2013"),
        (0.0, "auc", "0.0000"),
        (-0.25, "r2_log", "\u22120.2500"),
        (0.000012, "ece", "0.000012"),
        (1e-12, "ece", "1.0e\u221212"),
        (12345.67, "mae_s", "12,345.7"),
        (3.0e12, "mae_s", "3e+12"),
    ],
)
def test_numbers(value: float | None, metric: str, text: str) -> None:
    assert number(value, metric) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0021, "+0.0021"), (-0.0021, "\u22120.0021"), (0.0, "0.0000"), (-0.00003, "\u22120.000030")],
)
def test_differences_carry_their_sign(value: float, text: str) -> None:
    assert signed(value, "auc") == text


def test_an_end_of_an_interval_near_zero_keeps_its_sign() -> None:
    assert signed_interval(-0.002, -0.000001, "auc") == "\u22120.0020 to \u22120.0000"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "p < .001"),
        (0.0034, "p = .003"),
        (0.049, "p = .049"),
        (0.5, "p = .50"),
        (1.0, "p > .999"),
        (None, ""),
    ],
)
def test_p_values(value: float | None, text: str) -> None:
    assert p_equals(value) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", "(empty)"),
        ("  ", "(2 blanks)"),
        ("a\tb\nc", "a\\x09b\\x0ac"),
        ("\u202ex\u2028", "\\u202ex\\u2028"),
    ],
)
def test_nothing_invisible_is_left(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("watch_time", "watch_time"),
        ("_a_", "\\_a\\_"),
        ("a|b", "a\\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("a\nb", "a\\\\x0ab"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, expected: str) -> None:
    assert escaped(text) == expected


@pytest.mark.parametrize(
    ("value", "delta", "p_value", "metric", "word"),
    [
        (0.7, 0.01, 0.01, "auc", "better"),
        (0.7, -0.01, 0.01, "auc", "worse"),
        (0.7, -0.01, 0.06, "auc", "same"),
        (0.7, -0.01, None, "auc", "untested"),
        (0.7, None, None, "auc", "none"),
        (0.4, -0.01, 0.01, "log_loss", "better"),
        (0.9, 0.05, 0.01, "calibration", "better"),
        (1.8, 1.3, 0.01, "calibration", "better"),
        (1.3, 0.05, 0.01, "calibration", "worse"),
        (2.0, 1.5, 0.01, "calibration", "changed"),
        (None, 0.2, 0.01, "calibration", "changed"),
        (0.7, 0.01, 0.01, "home_made", "changed"),
    ],
)
def test_verdicts(
    value: float | None, delta: float | None, p_value: float | None, metric: str, word: str
) -> None:
    assert difference_word(value, delta, p_value, metric, 0.05) == word


def test_a_figure_without_baseline_is_a_short_sentence() -> None:
    assert figure_sentence(Figure(value=0.5), "auc") == "AUC 0.5000"


def test_the_glossary_orders_and_names() -> None:
    given = ["home_made", "mrr", "ndcg@10", "ne", "auc", "ne"]
    assert in_order(given) == ["auc", "ne", "ndcg@10", "mrr", "home_made"]
    assert headline_metric(["log_loss", "auc"]) == "auc"
    assert headline_metric([]) is None
    assert main_metrics(["home_made"]) == ["home_made"]
    assert metric_of("ndcg@10").label == "NDCG@10"
    assert metric_of("gauc_user_share").meaning
    assert metric_of("home_made").better is None


def test_whiskers_stay_within_their_box() -> None:
    slices = example().slices
    scales = whisker_scales(slices)
    drawn = [whisker(of, scales) for of in slices]
    assert all(w is not None and 0 <= w.left <= w.right <= WIDTH for w in drawn)
    assert any(w is not None and (w.is_cut_left or w.is_cut_right) for w in drawn)
    nothing = slices[0].model_copy(update={"difference": None})
    assert whisker(nothing, whisker_scales([nothing])) is None
    zero = slices[0].model_copy(
        update={"difference": 0.0, "difference_low": 0.0, "difference_high": 0.0}
    )
    found = whisker(zero, whisker_scales([zero]))
    assert found is not None
    assert found.dot == WIDTH / 2


def test_thin_lines_keep_gaps_and_means() -> None:
    values = [1.0, 3.0, None, None] * 300
    x, y, joined = thinned(range(1200), values)
    assert joined == 5
    assert len(x) == len(y) == 240
    assert set(y.tolist()) <= {1.0, 5 / 3, 2.0, 7 / 3, 3.0}
    x, y, joined = thinned([1, 2], [None, 2.0])
    assert joined == 1
    assert smoothed(y).tolist()[1] == 2.0
    assert smoothed(y)[0] != smoothed(y)[0]
