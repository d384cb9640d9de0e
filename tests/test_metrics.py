"""The table of metrics against what is computed; a new metric is one function and one entry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marigold_rec import metrics
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.evaluation import Judged, Settings, judge
from marigold_rec.analysis.figures import estimates, figure
from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.score_files import ScoreFiles, ScoreWriter
from marigold_rec.analysis.slicing import Slicing
from marigold_rec.analysis.targets import Target
from marigold_rec.config.gate import default_rules
from marigold_rec.config.label_kinds import LABEL_KINDS, Kind
from marigold_rec.metrics import METRICS, Metric, headline_of, imported, metric_of, metrics_of
from tests.analysis.nasty_rows import binary_rows, second_rows

_NUM_ROWS = 400


def _rows(kind: Kind) -> Rows:
    make = binary_rows if LABEL_KINDS[kind].has_classes else second_rows
    rows = make("few", "ones", _NUM_ROWS)
    users = np.arange(_NUM_ROWS, dtype=np.int32) // 4
    return Rows(rows.predictions, rows.labels, user_N=users, group_N=users, ndcg_at=(3,))


@pytest.mark.parametrize("kind", list(LABEL_KINDS))
def test_what_is_listed_is_computed_and_the_other_way_round(kind: Kind) -> None:
    found = estimates(kind, _rows(kind))
    assert {name.partition("@")[0] for name in found} == set(metrics_of(kind))
    for name, estimate in found.items():
        assert estimate.value is not None, name
        shown = figure(name, estimate, None, 0.95)
        assert (shown.low is not None) == (estimate.influence_C is not None), name
        if shown.low is not None and shown.high is not None:
            assert shown.low < estimate.value < shown.high, name
    assert headline_of(kind) == next(iter(found))
    assert metric_of(headline_of(kind)).better == "higher", "slices call a fall worse"


@pytest.mark.parametrize("name", list(METRICS))
def test_an_entry_is_whole(name: str) -> None:
    metric = METRICS[name]
    assert metric.kinds
    assert set(metric.kinds) <= set(LABEL_KINDS)
    assert metric.label
    assert metric.meaning.endswith(".")
    assert callable(imported(metric.function))
    assert metric.window is None or imported(metric.window)


def test_gates_have_the_rules_of_the_table() -> None:
    ruled = {n: metric.gate for n, metric in METRICS.items() if metric.gate}
    rules = {n: rule for kind in LABEL_KINDS for n, rule in default_rules(kind).items()}
    assert rules.keys() == ruled.keys()
    for name, rule in rules.items():
        assert rule is not None
        assert rule.model_dump(exclude_unset=True) == ruled[name]


def pinball_estimates(rows: Rows) -> dict[str, Estimate]:
    """Pinball loss of each quantile that the head predicts, as p<percent>."""
    found = {}
    for column, quantile_N in rows.columns.items():
        level = int(column.removeprefix("p")) / 100
        error_N = rows.label_N.astype(np.float64) - quantile_N
        loss_N = np.maximum(level * error_N, (level - 1) * error_N)
        mean = float(loss_N.mean())
        found[f"pinball@{column}"] = Estimate(mean, (loss_N - mean) / len(rows))
    return found


@pytest.fixture
def pinball(monkeypatch: pytest.MonkeyPatch) -> str:
    entry = Metric(
        "pinball", "Loss of a quantile.", ("duration",), f"{__name__}:pinball_estimates",
        "lower", "log", suffix="Of the quantile {}.",
    )  # fmt: skip
    monkeypatch.setitem(metrics.METRICS, "pinball", entry)
    return "pinball@p90"


def _written(folder: Path, factor: float, columns: tuple[str, ...]) -> ScoreFiles:
    folder.mkdir()
    rows = second_rows("few", "ones", _NUM_ROWS)
    extra = tuple(("watch", column) for column in columns)
    writer = ScoreWriter(folder, rank=0, world_size=1, tasks=("watch",), columns={}, extra=extra)
    scores = [rows.predictions] + [rows.predictions * np.float32(factor)] * len(columns)
    labels_BT = rows.labels[:, None]
    writer.add(np.stack(scores, 1), labels_BT, labels_BT >= 0, rows.weights, {})
    writer.close()
    return ScoreFiles(folder)


def _judged(model: ScoreFiles, baseline: ScoreFiles) -> Judged:
    target = Target("watch", "duration", "observed", "seconds", None, ("watch",))
    half = Slicing("half", (np.arange(_NUM_ROWS) % 2).astype(np.int32), ("even", "odd"))
    return judge(model, baseline, (target,), (target,), Settings(slicings=(half,)))


def test_a_metric_of_a_heads_column_is_where_the_head_has_it(pinball: str, tmp_path: Path) -> None:
    model = _written(tmp_path / "model", 2.0, ("p90", "p10"))
    judged = _judged(model, _written(tmp_path / "other", 3.0, ("p90",)))
    [report] = judged.tasks
    rows = second_rows("few", "ones", _NUM_ROWS)
    error = rows.labels.astype(float) - 2 * rows.predictions
    expected = np.maximum(0.9 * error, -0.1 * error)
    figure = report.figures[pinball]
    assert figure.value == pytest.approx(expected.mean(), rel=1e-6)
    assert figure.low is not None
    assert figure.delta is not None
    assert report.figures["pinball@p10"].baseline is None, "the baseline predicts no p10"
    for part, start in zip(sorted(judged.slices, key=lambda s: s.value), (0, 1), strict=True):
        assert part.figures[pinball].value == pytest.approx(expected[start::2].mean(), rel=1e-6)
    assert metric_of(pinball).label == "pinball@p90"
    assert metric_of(pinball).meaning == "Loss of a quantile. Of the quantile p90."
    plain = _written(tmp_path / "plain", 1.0, ())
    [report] = _judged(plain, model).tasks
    assert pinball not in report.figures
