"""Arrays on disk: the same figures to the bit, nothing left, a clear error without room."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.evaluation.clusters import cluster_codes
from marigold_rec.analysis import codes, row_arrays
from marigold_rec.analysis.evaluation import Judged, Settings, judge
from marigold_rec.analysis.row_arrays import empty, looked_up, on_disk, rows_where, taken
from marigold_rec.analysis.score_files import ScoreFiles, ScoreWriter
from marigold_rec.analysis.slicing import slicing
from marigold_rec.analysis.targets import Target
from marigold_rec.errors import ConfigError

_NUM_ROWS = 6000
_MEMORY = 8192
"""Arrays of 256 bytes are files; 1 KiB is looked up in at a time, some 256 rows."""

_TASKS = ("ctr", "cvr", "watch_time")
_TARGETS = (
    Target("ctr", "binary", "observed", "click", None, ("ctr",)),
    Target("cvr", "binary", "observed", "conversion", "click", ("cvr",)),
    Target("cvr over all rows", "binary", "all", "both", None, ("ctr", "cvr")),
    Target("watch_time", "duration", "observed", "watch_s", "click", ("watch_time",)),
)


def _write(folder: Path, seed: int, user: pa.Array, is_weighted: bool) -> ScoreFiles:
    folder.mkdir()
    generator = np.random.default_rng(5)
    click = generator.integers(0, 2, _NUM_ROWS)
    labels_BT = np.stack(
        [click, generator.integers(0, 2, _NUM_ROWS), generator.integers(0, 90, _NUM_ROWS)], axis=1
    ).astype(np.float32)
    observed_BT = np.stack([np.ones(_NUM_ROWS), click, click], axis=1) == 1
    weight = generator.choice([0.0, 1.0, 2.5], _NUM_ROWS) if is_weighted else np.ones(_NUM_ROWS)
    columns = {
        "user": user,
        "slate": pa.array(generator.integers(0, 900, _NUM_ROWS)),
        "country": pa.array(generator.choice(["PT", "BR", None], _NUM_ROWS)),  # pyright: ignore
        "price": pa.array(generator.exponential(9, _NUM_ROWS)),
    }
    scores_BT = np.random.default_rng(seed).integers(1, 400, (_NUM_ROWS, 3)).astype(np.float32)
    scores_BT[:, :2] /= 400
    kinds = {name: column.type for name, column in columns.items()}
    for rank, rows in enumerate(np.array_split(np.arange(_NUM_ROWS), 3)):
        writer = ScoreWriter(folder, rank=rank, world_size=3, tasks=_TASKS, columns=kinds)
        own = {name: column.take(pa.array(rows)) for name, column in columns.items()}
        writer.add(
            scores_BT[rows], labels_BT[rows], observed_BT[rows], weight[rows].astype("f4"), own
        )
        writer.close()
    return ScoreFiles(folder)


def _users(kind: str) -> pa.Array:
    user = np.random.default_rng(1).integers(0, 700, _NUM_ROWS)
    if kind == "text":
        return pa.array([f"user {u}" for u in user])
    is_null = user < 40 if kind == "with nulls" else None
    return pa.array(user * (2**50 if kind == "far apart" else 3), mask=is_null)


def _judged(model: ScoreFiles, baseline: ScoreFiles | None, has_users: bool = True) -> Judged:
    settings = Settings(
        user_N=cluster_codes(model, "user", ["user"]) if has_users else None,
        group_N=cluster_codes(model, "slate", ["slate"]),
        slicings=tuple(slicing(n, model.column(f"column.{n}")) for n in ("country", "price")),
        ndcg_at=(3,),
        confidence=0.95,
    )
    return judge(model, baseline, _TARGETS, () if baseline is None else _TARGETS, settings)


def _mapped_files(folder: Path) -> list[str]:
    """Files of this folder that this process has in memory, those without a name too."""
    gc.collect()
    return [s for s in Path("/proc/self/maps").read_text().splitlines() if f" {folder}/" in s]


@pytest.mark.parametrize(
    ("users", "is_weighted", "has_baseline"),
    [
        ("near", False, True),
        ("far apart", True, False),
        ("text", False, False),
        ("with nulls", False, False),
        ("none", True, True),
    ],
)
def test_the_same_figures_to_the_bit(
    tmp_path: Path,
    users: str,
    is_weighted: bool,
    has_baseline: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", 100)
    monkeypatch.setattr(codes.blocks_of_whole_codes, "__defaults__", (500,))
    monkeypatch.setattr(codes.columns_by_code, "__defaults__", (500,))
    model = _write(tmp_path / "model", 0, _users(users), is_weighted)
    baseline = None
    if has_baseline:
        baseline = _write(tmp_path / "baseline", 1, _users(users), is_weighted)
    expected = _judged(model, baseline, users != "none")
    folder = tmp_path / "scratch"
    folder.mkdir()
    with on_disk(folder, _MEMORY) as scratch:
        found = _judged(model, baseline, users != "none")
        assert scratch.num_bytes > 30 * _MEMORY
        assert not list(folder.iterdir()), "files that a kill would leave"
    assert found == expected
    assert not _mapped_files(folder)
    assert isinstance(empty(_MEMORY, np.int8).base, type(None)), "in memory again"


def test_the_files_go_with_the_arrays_and_after_an_error(tmp_path: Path) -> None:
    with on_disk(tmp_path, 1):
        kept = empty(5000, np.int64)
        kept[:] = np.arange(5000)
        assert len(_mapped_files(tmp_path)) == 1
    with pytest.raises(RuntimeError, match="half way"):
        _fail(tmp_path)
    assert len(_mapped_files(tmp_path)) == 1
    np.testing.assert_array_equal(kept, np.arange(5000))
    del kept
    assert not _mapped_files(tmp_path)
    assert not list(tmp_path.iterdir())


def _fail(folder: Path) -> None:
    with on_disk(folder, 1):
        array = empty(5000, np.int64)
        raise RuntimeError(f"half way through {len(array)}")


@contextmanager
def _largest_file(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room(tmp_path: Path) -> None:
    column = pa.array(np.arange(100_000))
    for make in (
        lambda: empty(100_000, np.int64),
        lambda: row_arrays.kept_column([column], column.type),
    ):
        with (
            on_disk(tmp_path, 1),
            _largest_file(1 << 16),
            pytest.raises(ConfigError, match=r"--out: no room in .* raise evaluation\.memory_gib"),
        ):
            make()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("memory", [None, 1, 100, 10**9])
def test_look_ups_are_those_of_numpy(
    tmp_path: Path, memory: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", 64)
    generator = np.random.default_rng(0)
    values_N = generator.random(333).astype(np.float32)
    keys = generator.integers(0, 333, 500).astype(np.uint64) | np.uint64(7 << 32)
    row_n = (keys & np.uint64(2**32 - 1)).astype(np.intp)

    def check() -> None:
        np.testing.assert_array_equal(looked_up(values_N, keys), values_N[row_n])
        rows = rows_where(333, lambda part: values_N[part] > 0.4)
        np.testing.assert_array_equal(rows, np.flatnonzero(values_N > 0.4))
        np.testing.assert_array_equal(taken(values_N, rows), values_N[values_N > 0.4])

    if memory is None:
        check()
    else:
        with on_disk(tmp_path, memory):
            check()
