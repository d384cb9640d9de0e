"""launch/compare.py as a person calls it: evaluations, training runs, and what is neither."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch import compare
from marigold_rec.analysis.report import Report
from marigold_rec.config.flat import flat_settings
from marigold_rec.reporting.settings import differing_settings
from tests.reporting.example import example

ROOT = Path(__file__).resolve().parents[2]


def training_run(folder: Path, config: str | None = None, **changes: Any) -> Path:
    """A folder as launch/train.py leaves it."""
    folder.mkdir()
    content = {
        "name": folder.name,
        "config_hash": "0123456789abcdef",
        "seed": 1,
        "status": "done",
        "step": 1000,
        "eval_undefined": {},
        "perf/samples_per_sec": 12345.6,
        "eval/auc/ctr": 0.7,
        "eval/log_loss/ctr": 0.5,
        "eval/calibration/ctr": 1.1,
        "eval/rows/ctr": 500.0,
    }
    (folder / "summary.json").write_text(json.dumps(content | changes))
    if config is not None:
        (folder / "config.effective.yaml").write_text(config)
    return folder


def evaluation(folder: Path, report: Report) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(report.json_text(), encoding="utf-8")
    return folder


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int | str | None, str, str]:
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
    try:
        code: int | str | None = compare.main()
    except SystemExit as ending:
        code = ending.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_runs_stand_below_one_another_with_the_best_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {
        "eval/auc/ctr": 0.71,
        "eval/log_loss/ctr": 0.52,
        "eval/calibration/ctr": 0.95,
    }
    one = training_run(tmp_path / "one")
    two = training_run(tmp_path / "two", **changes)
    code, out, _ = said(monkeypatch, capsys, one, two)
    assert code == 0
    lines, legend = out.splitlines()[:-2], out.splitlines()[-2:]
    assert lines == [
        "runs  status   step  seed  rows/s       config hash",
        "one     done  1,000     1  12,346  0123456789abcdef",
        "two     done  1,000     1  12,346  0123456789abcdef",
        "",
        "ctr              AUC         log loss    calibration",
        "one          0.7000           0.5000^         1.100",
        "two  0.7100 +0.0100^  0.5200 +0.0200   0.950 -0.150^",
        "",
    ]
    # A star would read as a test that was passed.
    assert "*" not in out
    assert any(line.startswith("^: ") and "may be chance" in line for line in legend)


def test_evaluations_and_training_runs_may_be_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = evaluation(tmp_path / "evaluated", example())
    trained = training_run(tmp_path / "trained")
    code, out, _ = said(monkeypatch, capsys, evaluated, trained, "--all", "--out", tmp_path / "out")
    assert code == 0
    assert "PR AUC" in out
    assert "globo-marigold has no R2 of log: all labels are 30 s" in out
    assert "warning: ctr: different numbers of evaluated rows" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.md", "compare.html"}
    page = (tmp_path / "out/compare.html").read_text(encoding="utf-8")
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "http:" not in page
    assert "<script" not in page


def test_only_the_settings_that_differ_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "balancer: {{name: {0}}}\nfeatures: [{{name: user_id, rows: {1}}}]\nmodel: {{name: mmoe}}\n"
    )
    one = training_run(tmp_path / "one", text.format("static", 10))
    two = training_run(tmp_path / "two", text.format("marigold", 20))
    three = training_run(tmp_path / "three")
    _, out, _ = said(monkeypatch, capsys, one, two, three, "--out", tmp_path / "out")
    assert "balancer.name          static  marigold      -\n" in out
    assert "features.user_id.rows      10        20      -\n" in out
    assert "mmoe" not in out
    assert (
        "| balancer.name | static | marigold | \u2013 |"
        in (tmp_path / "out/compare.md").read_text()
    )


def test_other_data_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = example().data.model_copy(update={"fingerprint": "another"})
    one = evaluation(tmp_path / "one", example())
    two = evaluation(tmp_path / "two", example(data=data))
    _, out, _ = said(monkeypatch, capsys, one, two / "report.json")
    assert "warning: the runs were evaluated on different data" in out
    assert "globo-marigold (" in out, "runs of one name are told apart"


def test_a_run_that_failed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "failed"
    folder.mkdir()
    (folder / "summary.json").write_text('{"name": "failed", "status": "failed", "seed": 1}')
    code, out, _ = said(monkeypatch, capsys, folder)
    assert code == 0
    assert "warning: failed: its status is failed, not done" in out


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a|b\n# c", "\x1b[31mred"])
def test_names_stay_text(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = f"model: {{name: {json.dumps(name)}}}\n"
    runs = [
        training_run(tmp_path / "one", config, name=name, **{f"eval/auc/{name}": 0.5}),
        training_run(tmp_path / "two", "model: {trunk: {name: mmoe}}\n"),
    ]
    code, out, _ = said(monkeypatch, capsys, *runs, "--out", tmp_path / "out")
    assert code == 0
    assert "\x1b" not in out
    page = (tmp_path / "out/compare.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "<" not in text
    assert not any(line.startswith("# c") for line in text.splitlines())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "found nothing, expected an evaluation's folder (with report.json)"),
        ({}, "found a folder with neither"),
        ({"report.json": "{"}, "report.json: expected JSON"),
        ({"report.json": "[]"}, "expected a JSON object"),
        ({"report.json": '{"format": 99}'}, "found format 99, expected 1"),
        ({"report.json": '{"format": 1}'}, "report.json: created: found"),
        ({"summary.json": "{}"}, "summary.json: found no `status`"),
        (
            {"summary.json": '{"status": "done"}', "config.effective.yaml": "a: ["},
            "config.effective.yaml, line 1: not valid YAML",
        ),
    ],
)
def test_what_is_neither_is_refused(
    content: dict[str, str] | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    code, out, err = said(monkeypatch, capsys, folder, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    assert str(folder) in err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    run = training_run(tmp_path / "run")
    code, _, err = said(monkeypatch, capsys, run, "--out", tmp_path / "file")
    assert code == 2
    assert "can't write there" in err


def test_it_starts_without_torch_and_matplotlib() -> None:
    code = (
        "import sys, launch.compare; "
        "sys.exit(bool({'torch', 'matplotlib', 'numpy'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_settings_are_compared_by_path_and_name() -> None:
    flat = flat_settings({"a": {"b": 1}, "tasks": [{"name": "ctr", "kind": "binary"}], "c": [1]})
    assert flat == {"a.b": 1, "tasks": ["ctr"], "tasks.ctr.name": "ctr", "tasks.ctr.kind": "binary",
                    "c": [1]}  # fmt: skip
    assert differing_settings([{"a": 1}, None]) == {}
    assert differing_settings([{"a": 1}, {"a": 1}]) == {}
    assert differing_settings([{"a": 1, "b": True}, {"a": 1}]) == {"b": ["true", "absent"]}
