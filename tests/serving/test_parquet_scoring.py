"""`python -m marigold_rec.serving`: the rows in order, in pieces, whole or not at all."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marigold_rec.errors import DataError
from marigold_rec.serving import Predictor
from marigold_rec.serving.__main__ import main
from marigold_rec.serving.parquet_scoring import score_parquet
from tests.parquet.bombs import encrypted, list_bomb, text_list_bomb
from tests.serving.artefacts import Model, small_config
from tests.support.runs import click_log, write_days

DAYS = {"2024-01-01": click_log(300), "2024-01-02": click_log(200, seed=1)}


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Model(small_config()).export(tmp_path_factory.mktemp("scoring") / "artefact")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_days(tmp_path / "log", DAYS, row_group_rows=70)


def test_scores_stand_beside_their_rows(
    artefact: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marigold_rec.serving.parquet_scoring._ROWS_AT_ONCE", 64)
    out = tmp_path / "scores.parquet"
    code = main([str(artefact), "--data", str(log), "--out", str(out), "--columns", "row,history"])
    assert code == 0
    found, rows = pq.read_table(out), pa.concat_tables(list(DAYS.values()))
    expected = Predictor(artefact).predict(rows)
    assert found.column_names == ["row", "history", *(f"score.{name}" for name in expected)]
    assert found.column("row").to_pylist() == rows.column("row").to_pylist()
    assert found.column("history").to_pylist() == rows.column("history").to_pylist()
    for name, value in expected.items():
        np.testing.assert_allclose(found.column(f"score.{name}"), value, rtol=1e-6, atol=1e-6)
    assert pq.read_metadata(out).num_row_groups > 5, "it was not written in pieces"
    assert {p.name for p in tmp_path.iterdir()} == {"log", "scores.parquet"}


def test_a_process_without_the_training_stack(artefact: Path, log: Path, tmp_path: Path) -> None:
    """Neither torchrec nor FBGEMM nor our other packages are imported; no process group is made."""
    code = """
import sys
from marigold_rec.serving.__main__ import main
status = main(sys.argv[1:])
import torch.distributed
assert not torch.distributed.is_initialized()
heavy = ("torchrec", "fbgemm_gpu", "models", "data_pipelines", "jobs", "launch")
loaded = sorted({m.split(".")[0] for m in sys.modules} & set(heavy))
ours = sorted(m for m in sys.modules if m.startswith("marigold_rec.") and m.count(".") == 1)
print(status, loaded, ours)
"""
    out = tmp_path / "scores.parquet"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(artefact), "--data", str(log), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    names = ["atomic_io", "config", "errors", "file_entry", "metrics", "parquet", "plain_zip"]
    names += ["record", "sealed", "serving", "transforms", "versions", "waiting_threads"]
    ours = [f"marigold_rec.{name}" for name in names]
    assert ended.stdout.strip() == f"0 [] {ours}", ended.stderr
    assert pq.read_metadata(out).num_rows == 500


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ({"--columns": "row,itm"}, 3, "'itm' is not in .*did you mean 'item'"),
        ({"--columns": "row,row"}, 3, "'row' is there twice"),
        ({"--data": "nowhere"}, 3, "no Parquet file there"),
        ({"--data": "text.parquet"}, 3, "not a readable Parquet file"),
        ({"--data": "users.parquet"}, 3, "users.parquet: the rows to predict: column 'user' is"),
        ({"--out": "text.parquet"}, 2, "holds no scores of ours; it is not overwritten"),
        ({"--out": "log/dt=2024-01-01/part-00000.parquet"}, 2, "is the data; name another"),
        ({"--out": "no/such/folder/x.parquet"}, 2, "can't write to"),
        ({"artefact": "log"}, 5, "artefact.json: can't be read"),
    ],
)
def test_refusals(
    artefact: Path, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    arguments: dict[str, str], code: int, said: str,
) -> None:  # fmt: skip
    (tmp_path / "text.parquet").write_text("a poem")
    names = click_log(5)
    as_text = names.column("user").cast(pa.string())
    pq.write_table(names.set_column(1, "user", as_text), tmp_path / "users.parquet")
    given: dict[str, Any] = {"--data": "log", "--out": "scores.parquet", "artefact": str(artefact)}
    given |= arguments
    words = [str(tmp_path / given.pop("artefact"))]
    for flag, value in given.items():
        words += [flag, value if flag == "--columns" else str(tmp_path / value)]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert main(words) == code
    assert re.search(said, caplog.text), caplog.text
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_damaged_file_leaves_the_old_scores(artefact: Path, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    predictor = Predictor(artefact)
    assert score_parquet(predictor, log, out).rows == 500
    before = out.read_bytes()
    second = log / "dt=2024-01-02" / "part-00000.parquet"
    content = bytearray(second.read_bytes())
    content[len(content) // 3] ^= 0xFF
    second.write_bytes(content)
    with pytest.raises(DataError, match=r"dt=2024-01-02.part-00000.parquet: can't be read"):
        score_parquet(predictor, log, out)
    assert out.read_bytes() == before
    shutil.rmtree(log / "dt=2024-01-02")
    assert score_parquet(predictor, log, out).rows == 300
    assert pq.read_metadata(out).num_rows == 300


def test_what_was_dropped_is_counted(artefact: Path, tmp_path: Path) -> None:
    rows = [{"user": None, "item": 1, "history": [None, 2], "price": 1.0}] * 3
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    scored = score_parquet(
        Predictor(artefact), tmp_path / "data.parquet", tmp_path / "scores.parquet"
    )
    # A column without any value has no type here; see Inputs.
    assert scored.counts == {"missing/user": 3, "missing/history": 3}


def test_odd_folders_are_scored_as_training_reads_them(
    artefact: Path, log: Path, tmp_path: Path
) -> None:
    """Links, partitions whose names begin with _, and a column that only the path tells."""
    rows = DAYS["2024-01-01"]
    users = rows.column("user").to_pylist()
    odd = tmp_path / "odd"
    for number, user in enumerate(users[:12]):
        file = tmp_path / f"blobs/{number}"
        file.parent.mkdir(exist_ok=True)
        pq.write_table(rows.slice(number, 1).drop_columns(["user"]), file)
        folder = odd / f"_part={number}/user={user}"
        folder.mkdir(parents=True)
        (folder / "a.parquet").symlink_to(file)
    out = tmp_path / "scores.parquet"
    score_parquet(Predictor(artefact), odd, out, ["row", "user"])
    found, expected = pq.read_table(out), Predictor(artefact).predict(rows.slice(0, 12))
    assert found.column("row").to_pylist() == rows.column("row").to_pylist()[:12]
    assert found.column("user").to_pylist() == users[:12]
    for name, value in expected.items():
        np.testing.assert_allclose(found.column(f"score.{name}"), value, rtol=1e-6, atol=1e-6)


def test_folders_and_files_that_must_not_be_scored(
    artefact: Path, log: Path, tmp_path: Path
) -> None:
    predictor, out = Predictor(artefact), tmp_path / "scores.parquet"

    def refusal(data: Path) -> str:
        with pytest.raises(DataError) as caught:
            score_parquet(predictor, data, out)
        assert not out.exists()
        return str(caught.value)

    rows = DAYS["2024-01-01"]
    bomb = list_bomb(tmp_path / "bomb.parquet", rows, "history")
    assert re.search(r"column 'history.*MiB.*smaller row groups", refusal(bomb))
    bomb = text_list_bomb(tmp_path / "bomb.parquet", rows, "history")
    assert re.search(r"column 'history'.*", refusal(bomb))
    for plaintext_footer in (True, False):
        locked = encrypted(
            tmp_path / "locked.parquet", rows, "user", plaintext_footer=plaintext_footer
        )
        assert "is encrypted" in refusal(locked)
    (log / "dt=2024-01-01/gone.parquet").symlink_to("nowhere")
    assert "gone.parquet: a link that leads nowhere" in refusal(log)
    (log / "_delta_log").mkdir()
    assert "Delta Lake" in refusal(log / "dt=2024-01-01")
