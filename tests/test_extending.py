"""docs/extending.md: its components are trained, resumed, evaluated, exported and predicted."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from marigold_rec import metrics
from marigold_rec.config import components
from tests.support.launches import Ended, codes, evaluate_main, strict_json, train_main
from tests.support.ranks import run_ranks
from tests.support.runs import click_log, config_tree, write_config, write_days

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
_TABLES = "FEATURES|ENCODERS|INTERACTIONS|HEADS|LOSSES"
_LINE = re.compile(rf'^`({_TABLES})`: `"(\w+)": "([\w:]+)"`$', re.M)
_METRIC = re.compile(r'^`METRICS`: `"(\w+)": (Metric\(.*?\))`$', re.M | re.S)


def _write_modules(folder: Path) -> Path:
    """The page's files."""
    folder.mkdir()
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name is not None
        (folder / name[1]).write_text(block)
    return folder


def _register(folder: Path) -> None:
    """The page's lines, in this process: one that was forked for it."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    text = PAGE.read_text()
    for table, name, path in _LINE.findall(text):
        getattr(components, table)[name] = path
    for name, entry in _METRIC.findall(text):
        metrics.METRICS[name] = eval(entry, {"Metric": metrics.Metric})


def _train(folder: Path, arguments: tuple[str, ...]) -> Ended:
    _register(folder)
    return train_main(arguments)


def _evaluate(folder: Path, arguments: tuple[str, ...]) -> Ended:
    _register(folder)
    return evaluate_main(arguments)


def _predictions(folder: Path, run: Path, log: Path) -> dict[str, np.ndarray]:
    """An export's, of the whole log."""
    _register(folder)
    from jobs.export.arguments import ExportArguments
    from jobs.export.run import export_checkpoint
    from marigold_rec.serving import Predictor

    out = run.parent / "artefact"
    export_checkpoint(ExportArguments(checkpoint=run, out=out, tables="fp32", overrides=()))
    return Predictor(out).predict(pq.read_table(log))


def _tree(log: Path, runs: Path) -> dict[str, Any]:
    tree = config_tree(log, runs)
    tree["features"].append({"name": "clicks", "kind": "list_length", "column": "history"})
    ctr, cvr, watch = tree["tasks"]
    tree["tasks"] = [
        ctr,
        cvr | {"loss": {"name": "click_weighted"}},
        watch | {"head": {"name": "mean_p90"}},
    ]
    tree["model"]["sequences"] = {"history": {"name": "newest"}}
    tree["model"]["interactions"] = [{"name": "squares"}]
    return tree


def test_the_page_has_a_line_for_each_file() -> None:
    text = PAGE.read_text()
    files = re.findall(r"^# (\w+)\.py$", text, re.M)
    lines = [path.partition(":")[0] for _, _, path in _LINE.findall(text)]
    lines += re.findall(r'"(\w+):\w+"', "".join(entry for _, entry in _METRIC.findall(text)))
    assert sorted(files) == sorted(lines)
    assert len(files) == 6


@pytest.mark.slow
def test_each_is_trained_resumed_evaluated_exported_and_predicted(tmp_path: Path) -> None:
    modules = _write_modules(tmp_path / "modules")
    days = {"2024-01-01": click_log(3000), "2024-01-02": click_log(1500, seed=1)}
    log = write_days(tmp_path / "log", days)
    config = write_config(_tree(log, tmp_path / "runs"), tmp_path / "config.yaml")

    def train(*overrides: str) -> None:
        arguments = ("--config", str(config), *overrides)
        ended = run_ranks(_train, 2, modules, arguments, init_group=False)
        assert codes(ended) == [0, 0], ended[0].said

    train("run.steps=6", "run.name=half")
    train("run.steps=12", "run.name=whole")
    (tmp_path / "runs/half").rename(tmp_path / "runs/resumed")
    train("run.steps=12", "run.name=resumed")
    summaries = [
        strict_json((tmp_path / f"runs/{name}/summary.json").read_text())
        for name in ("whole", "resumed")
    ]
    metric = "eval/p90_coverage/watch_time"
    assert 0.5 < summaries[0][metric] <= 1.0
    for key, value in summaries[0].items():
        if key.startswith("eval/"):
            assert summaries[1][key] == value, key
    run = tmp_path / "runs/whole"
    out = tmp_path / "report"
    arguments = ("--checkpoint", str(run), "--out", str(out))
    assert codes(run_ranks(_evaluate, 2, modules, arguments, init_group=False)) == [0, 0]
    report = strict_json((out / "report.json").read_text())
    [watch] = [task for task in report["tasks"] if task["name"] == "watch_time"]
    assert watch["figures"]["p90_coverage"]["value"] == pytest.approx(summaries[0][metric])
    assert "p90 coverage" in (out / "report.md").read_text()
    [found] = run_ranks(
        _predictions, 1, modules, run, log / "dt=2024-01-02/part-00000.parquet", init_group=False
    )
    assert {"ctr", "cvr", "watch_time", "watch_time_p90"} <= set(found)
    labels = days["2024-01-02"]["watch_s"].to_pandas().to_numpy()
    seen = ~np.isnan(labels)
    coverage = np.mean(labels[seen] <= found["watch_time_p90"][seen])
    assert coverage == pytest.approx(summaries[0][metric], abs=1e-6)
