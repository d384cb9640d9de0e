"""launch/export.py: a trained checkpoint, served, predicts what launch/evaluate.py says of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from launch.export import main
from marigold_rec.errors import DataError
from marigold_rec.serving import Predictor
from tests.support.launches import Ended, _ended, codes, launch_evaluate, launch_train
from tests.support.ranks import run_ranks
from tests.support.runs import click_log, config_tree, write_config, write_days

_COLUMNS = "evaluation={user: user, item: item}"


@dataclass(frozen=True)
class Trained:
    run: Path
    log: pa.Table
    scores: pa.Table
    """By launch/evaluate.py, of the rows of `log`."""
    folder: Path


def export(*arguments: str) -> Ended:
    return run_ranks(export_main, 1, arguments, init_group=False)[0]


def export_main(arguments: tuple[str, ...]) -> Ended:
    return _ended(main, ("launch/export.py", *arguments), ())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained on two ranks, with a table cut by rows and one by columns."""
    folder = tmp_path_factory.mktemp("export")
    days = {"2024-01-01": click_log(3000), "2024-01-02": click_log(1500, seed=1)}
    tree = config_tree(write_days(folder / "log", days), folder / "runs")
    tree["sharding"] = {"tables": {"user": "row_wise", "item": "column_wise"}}
    config = write_config(tree, folder / "config.yaml")
    ended = launch_train(config, "run.name=a", _COLUMNS, num_ranks=2)
    assert codes(ended) == [0, 0], ended[0].said
    return Trained(
        folder / "runs" / "a", days["2024-01-02"], scores_of(folder / "runs" / "a", folder), folder
    )


def scores_of(run: Path, folder: Path) -> pa.Table:
    ended = launch_evaluate(
        "--checkpoint", str(run), "--out", str(folder / "report"), "--keep-scores"
    )
    assert codes(ended) == [0], ended[0].said
    parts = sorted((folder / "report" / "scores" / "model").glob("part-*"))
    return pa.concat_tables([pq.read_table(part) for part in parts])


@pytest.fixture(scope="module")
def artefact(trained: Trained) -> Path:
    out = trained.folder / "artefacts" / "fp32"
    ended = export("--checkpoint", str(trained.run), "--out", str(out))
    assert ended.code == 0, ended.said
    assert "exported step" in ended.said
    return out


def assert_parity(artefact: Path, log: pa.Table, scores: pa.Table) -> None:
    predictor = Predictor(artefact)
    found = predictor.predict(log)
    for task in predictor.artefact.predictions:
        expected = scores.column(f"score.{task}").to_numpy()
        assert len(expected) == log.num_rows
        np.testing.assert_allclose(found[task], expected, rtol=1e-6, atol=1e-6)
        assert np.ptp(expected) > 0.01


def test_predictions_are_those_of_the_evaluation(trained: Trained, artefact: Path) -> None:
    assert_parity(artefact, trained.log, trained.scores)


def test_it_says_where_it_comes_from(trained: Trained, artefact: Path) -> None:
    said = Predictor(artefact).artefact
    assert trained.run.joinpath("checkpoints", f"step-{said.step:09d}").is_dir()
    assert said.run == "a"
    assert said.columns == {
        "user": "numbers", "item": "numbers", "history": "lists of numbers", "price": "numbers",
    }  # fmt: skip
    assert said.schema_hash is not None
    assert "torch" in said.versions


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_tables(trained: Trained, artefact: Path, tmp_path: Path, precision: str) -> None:
    out = tmp_path / "small"
    ended = export("--checkpoint", str(trained.run), "--out", str(out), "--tables", precision)
    assert ended.code == 0, ended.said
    found, full = Predictor(out).predict(trained.log), Predictor(artefact).predict(trained.log)
    assert 0 < float(np.abs(found["ctr"] - full["ctr"]).max()) < 0.01
    most = 0.51 if precision == "int8" else 0.50  # widths of 8 and 4: 8 bytes more a row
    assert table_bytes(out) <= most * table_bytes(artefact)


def table_bytes(artefact: Path) -> int:
    return sum(path.stat().st_size for path in (artefact / "tables").iterdir())


def test_without_the_training_files_text_is_not_told_from_numbers(
    trained: Trained, tmp_path: Path
) -> None:
    ended = export(
        "--checkpoint", str(trained.run), "--out", str(tmp_path / "out"), "data.path=/nowhere"
    )
    assert ended.code == 0, ended.said
    assert "data.path=..." in ended.said
    predictor = Predictor(tmp_path / "out")
    assert predictor.artefact.columns is None
    assert_parity(tmp_path / "out", trained.log, trained.scores)
    with pytest.raises(DataError, match="id feature needs an integer"):
        predictor.predict([{"user": 1, "item": "7", "history": [], "price": 1}])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--checkpoint", "/nowhere"), 5, "/nowhere: no checkpoint"),
        (
            ("model.trunk.experts=7",),
            2,
            "an export can't change the model: model.trunk.experts: 3 then, 7",
        ),
        (("features.item.rows=151",), 2, "an export can't change the model: features"),
        (("data.pth=x",), 2, "did you mean 'path'"),
        (("--out", "{folder}/log"), 2, "is there and is not an artefact; it is not overwritten"),
        (("--tables", "int4"), 2, "invalid choice: 'int4'"),
    ],
)
def test_refusals(
    trained: Trained, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.folder.rglob("*")}
    given = [word.format(folder=trained.folder) for word in arguments]
    # argparse takes the last of a flag that is given twice
    ended = export("--checkpoint", str(trained.run), "--out", str(tmp_path / "out"), *given)
    assert ended.code == code, ended.said
    assert said in ended.said
    assert "Traceback" not in ended.said
    assert not (tmp_path / "out").exists()
    assert {p: p.stat().st_mtime_ns for p in trained.folder.rglob("*")} == before


def test_a_damaged_checkpoint(trained: Trained, tmp_path: Path) -> None:
    step = next((trained.run / "checkpoints").glob("step-*"))
    broken = Path(shutil.copytree(step, tmp_path / step.name))
    data = next(broken.glob("*.distcp"))
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    ended = export("--checkpoint", str(broken), "--out", str(tmp_path / "out"))
    assert ended.code == 5, ended.said
    assert "size or sha256 differs" in ended.said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_synthetic_log_of_100_000_rows(tmp_path: Path) -> None:
    """fp32: every prediction to 1e-6. int8: at most 0.0005 of AUC and 37.6 % of the table bytes."""
    run = tmp_path / "runs" / "long"
    python(
        "launch/train.py", "--config", "configs/ctr_cvr.yaml", "run.name=long",
        f"run.dir={tmp_path / 'runs'}", "data.synthetic.days=2",
        "data.synthetic.rows_per_day=100000", "data.train.dates=[2024-01-01,2024-01-01]",
        "data.eval.dates=[2024-01-02,2024-01-02]", "distributed.threads_per_rank=1",
    )  # fmt: skip
    files = sorted((tmp_path / "runs" / ".synthetic").glob("*/dt=2024-01-02/*.parquet"))
    log = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    assert 99_000 < log.num_rows < 101_000
    for precision in ("fp32", "int8"):
        out = str(tmp_path / precision)
        python("launch/export.py", "--checkpoint", str(run), "--out", out, "--tables", precision)
    report = tmp_path / "report"
    python("launch/evaluate.py", "--checkpoint", str(run), "--out", str(report), "--keep-scores")
    parts = sorted((report / "scores" / "model").glob("part-*"))
    scores = pa.concat_tables([pq.read_table(part) for part in parts])
    assert_parity(tmp_path / "fp32", log, scores)
    assert table_bytes(tmp_path / "int8") <= 0.376 * table_bytes(tmp_path / "fp32")
    full = Predictor(tmp_path / "fp32").predict(log)
    small = Predictor(tmp_path / "int8").predict(log)
    click = log.column("click").to_numpy() == 1
    conversion = log.column("conversion").to_numpy() == 1
    for name, label, rows in (
        ("ctr", click, np.ones(len(click), bool)),
        ("cvr", conversion, click),
        ("cvr_over_all_rows", click & conversion, np.ones(len(click), bool)),
    ):
        before, after = (roc_auc_score(label[rows], p[name][rows]) for p in (full, small))
        print(f"{name}: fp32 {before:.5f}, int8 {after - before:+.2e}")
        assert before > 0.6
        assert after >= before - 0.0005


def python(*arguments: str) -> None:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
