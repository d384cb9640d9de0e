"""A run goes on at other numbers of ranks and under other plans, in the middle of an epoch.

No row is lost or repeated, the steps are as many as ever (the rows of a step being the same), and
what was learned is there: tables, dense part and optimizers to the bit, evaluation to 1e-6.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_pipelines.reading.reader import ParquetReader
from marigold_rec.batch import Cursor, Leg
from marigold_rec.checkpoint import config_differences, read_manifest
from marigold_rec.config import load_config
from marigold_rec.errors import CheckpointError
from tests.support.launches import PATIENT, codes, launch_train
from tests.support.ranks import run_ranks
from tests.support.runs import (
    Run,
    click_log,
    config_tree,
    default_setup,
    with_run,
    write_config,
    write_days,
)
from tests.support.sealing import reseal

_ROWS = 1001
_ROWS_PER_STEP = 96
_STEPS_PER_EPOCH = 11
_STEPS = 2 * _STEPS_PER_EPOCH
_SETTINGS = (
    "run.epochs=2",
    "data.shuffle_rows=60",
    "model.dropout=0.2",
    "balancer.probe.every_n_steps=5",
    PATIENT,
)


@dataclass(frozen=True)
class Stretch:
    """A part of the run: so many ranks, under that plan, until that step."""

    ranks: int
    plan: str
    until: int


# The third goes over the seam of the epochs.
_CHAIN = (
    Stretch(2, "table_wise", 4),
    Stretch(1, "row_wise", 7),
    Stretch(3, "column_wise", 14),
    Stretch(2, "table_wise", _STEPS),
)


@dataclass(frozen=True)
class Standing:
    """What one rank holds and predicts."""

    predictions: Tensor
    whole: dict[str, Tensor]
    """Of the model and the dense optimizer; tables gathered."""
    row_sums: list[tuple[str, int, int, Tensor]]
    """Table, first row and first column of a shard; its sums, for each of its columns [R, C]."""
    draws: Tensor
    """What the rank's random stream gives next."""


@dataclass(frozen=True)
class Trained:
    """What one rank did in a stretch."""

    before: Standing
    """Directly after the load."""
    after: Standing
    steps: list[tuple[int, list[int]]]
    """Epoch and rows of each step."""
    cursors: list[Cursor]
    ended: int
    total: int


def _train(config: Path, overrides: tuple[str, ...]) -> Trained:
    """Trains from the newest checkpoint, if there is one."""

    def work(run: Run) -> Trained:
        batches: list[Any] = []
        trainer, progress = run.trainer, run.trainer.pipeline.progress
        trainer._reader = ParquetReader(
            run.data.train,
            run.config,
            rank=run.ranks.rank,
            world_size=run.ranks.world_size,
            extra_columns=("row",),
        )

        def recorded(fetched: Any) -> Any:
            output = progress(fetched)
            batches.append(output.batch)
            return output

        setattr(trainer.pipeline, "progress", recorded)  # noqa: B010 - its own type is narrower
        if (found := run.store.find("auto")) is not None:
            trainer.resume(found)
        before = _standing(run)
        outcome = run.train()
        return Trained(
            before,
            _standing(run),
            [(batch.cursor.epoch, batch.columns["row"].to_pylist()) for batch in batches],
            [batch.cursor for batch in batches],
            outcome.step,
            outcome.total_steps,
        )

    return with_run(config, overrides, work)


def _standing(run: Run) -> Standing:
    """Collective. Leaves the random stream as it is."""
    stream = torch.get_rng_state()
    draws = torch.rand(8)
    torch.set_rng_state(stream)
    tensors = run.trainer._state.tensors(with_random=False)
    dense = {n: t.clone() for n, t in tensors.items() if n.startswith("optimizer/dense.")}
    return Standing(run.predictions(), run.tensors() | dense, _row_sums(tensors), draws)


def _row_sums(tensors: dict[str, Any]) -> list[tuple[str, int, int, Tensor]]:
    found = []
    for name, sums in tensors.items():
        if not name.startswith("optimizer/sparse."):
            continue
        parameter, _, key = name.removeprefix("optimizer/sparse.").rpartition("/")
        assert key.endswith(".momentum1")
        weights = tensors[f"model/{parameter}"].to_local()
        for (row, column), weight, shard in zip(
            weights.local_offsets(),
            weights.local_shards(),
            sums.to_local().local_shards(),
            strict=True,
        ):
            assert len(shard) == len(weight)
            for_columns = shard.detach().clone()[:, None].expand(-1, weight.shape[1])
            found.append((parameter, row, column, for_columns))
    return found


def _assembled(standings: list[Standing]) -> dict[str, Tensor]:
    """Per table the sum that counts at each of its places [rows, columns]."""
    whole: dict[str, Tensor] = {}
    for table, row, column, sums in (p for standing in standings for p in standing.row_sums):
        shape = standings[0].whole[table].shape
        target = whole.setdefault(table, torch.full(shape, torch.nan))
        target[row : row + sums.shape[0], column : column + sums.shape[1]] = sums
    assert all(not bool(t.isnan().any()) for t in whole.values()), "some place has no sum"
    return whole


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def chain(run_folder: Path) -> list[list[Trained]]:
    """Per stretch, what each of its ranks did."""
    days = {"2024-01-01": click_log(_ROWS), "2024-01-02": click_log(500, seed=1)}
    # Small row groups: many windows, so that both kinds of rest are there.
    data = write_days(run_folder / "log", days, row_group_rows=50)
    config = write_config(config_tree(data, run_folder / "runs"), run_folder / "config.yaml")
    done = []
    for stretch in _CHAIN:
        overrides = (
            *_SETTINGS,
            f"sharding.default={stretch.plan}",
            f"data.batch_size={_ROWS_PER_STEP // stretch.ranks}",
            # The last one has to find its end by itself.
            *([f"run.steps={stretch.until}"] if stretch is not _CHAIN[-1] else []),
        )
        done.append(
            run_ranks(_train, stretch.ranks, config, overrides, timeout_s=25, init_group=False)
        )
    return done


def test_no_row_is_lost_or_repeated(chain: list[list[Trained]]) -> None:
    for epoch in (0, 1):
        taken = [
            row
            for stretch in chain
            for rank in stretch
            for of, rows in rank.steps
            if of == epoch
            for row in rows
        ]
        assert sorted(taken) == list(range(_ROWS))


def test_the_steps_are_as_many_as_ever(chain: list[list[Trained]]) -> None:
    first = 0
    for stretch, ranks in zip(_CHAIN, chain, strict=True):
        for rank in ranks:
            assert (rank.ended, rank.total) == (stretch.until, stretch.until)
            assert len(rank.steps) == stretch.until - first
        first = stretch.until
    epochs = [epoch for ranks in chain for epoch, _ in ranks[0].steps]
    assert epochs == [0] * _STEPS_PER_EPOCH + [1] * _STEPS_PER_EPOCH


def test_the_days_go_on_from_old_to_new(chain: list[list[Trained]]) -> None:
    """Rows are numbered in the order of files: a step's rows lie near where it stands."""
    seen = 0
    for ranks in chain:
        for at_once in zip(*(rank.steps for rank in ranks), strict=True):
            rows = [row for _, mine in at_once for row in mine]
            start = seen % _ROWS
            assert start - 300 <= min(rows) <= max(rows) <= start + 96 + 300
            seen += len(rows)


def test_the_cursor_tells_the_legs_of_its_epoch(chain: list[list[Trained]]) -> None:
    assert {rank.cursors[-1].legs for rank in chain[1]} == {(Leg(2, 192),)}
    three = {cursor.epoch: cursor.legs for rank in chain[2] for cursor in rank.cursors}
    assert three == {0: (Leg(2, 192), Leg(1, 288)), 1: ()}
    assert {rank.cursors[-1].legs for rank in chain[3]} == {(Leg(3, 96),)}


def test_tables_and_dense_part_are_carried_over_to_the_bit(chain: list[list[Trained]]) -> None:
    for old, new in pairwise(chain):
        expected = old[0].after.whole
        assert any(name.endswith("exp_avg_sq") for name in expected)
        for rank in new:
            found = rank.before.whole
            assert found.keys() == expected.keys()
            different = [n for n in expected if not torch.equal(found[n], expected[n])]
            assert not different, different


def test_row_sums_are_carried_over(chain: list[list[Trained]]) -> None:
    """To the bit, wherever the new plan can hold them: a whole row has one sum for all columns."""
    for stretch, old, new in zip(_CHAIN[1:], chain, chain[1:], strict=False):
        expected = _assembled([rank.after for rank in old])
        found = _assembled([rank.before for rank in new])
        assert found.keys() == expected.keys()
        for table, sums in expected.items():
            assert sums.count_nonzero() > 0, "nothing was learned"
            if stretch.plan != "column_wise":
                sums = sums.double().mean(1, keepdim=True).float().expand_as(sums)
            assert torch.equal(found[table], sums), (stretch, table)


def test_column_shards_had_sums_of_their_own(chain: list[list[Trained]]) -> None:
    """Else the test above says little of the way back to whole rows."""
    sums = _assembled([rank.after for rank in chain[2]])
    assert any(not torch.equal(t[:, 0], t[:, -1]) for t in sums.values())


def test_evaluation_directly_after_the_load(chain: list[list[Trained]]) -> None:
    for old, new in pairwise(chain):
        expected = torch.cat([rank.after.predictions for rank in old])
        found = torch.cat([rank.before.predictions for rank in new])
        difference = ((found - expected).abs() / expected.abs().clamp_min(1.0)).max().item()
        assert difference <= 1e-6
        assert expected.std(0).min() > 0.001


def test_each_rank_draws_a_fresh_stream(chain: list[list[Trained]]) -> None:
    draws = [tuple(rank.before.draws.tolist()) for ranks in chain for rank in ranks]
    assert len(set(draws)) == len(draws) == 8


def _launched(
    config: Path, ranks: int, batch_size: int, until: int, *more: str
) -> tuple[list[int], str]:
    overrides = (*_SETTINGS, f"data.batch_size={batch_size}", f"run.steps={until}", *more)
    ended = launch_train(config, *overrides, num_ranks=ranks)
    return codes(ended), ended[0].said


def test_the_doorway_allows_another_batch_size_and_says_what_it_means(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=_ROWS)
    assert _launched(config, 2, 48, 3)[0] == [0, 0]

    refused, said = _launched(config, 2, 96, 6)
    assert refused == [5, 5]
    assert "data.batch_size: 48 then, 96 now" in said

    kept, said = _launched(config, 1, 96, 4)
    assert kept == [0]
    assert "saved by 2 ranks, goes on with 1: they share out the rest of epoch 0" in said
    assert "a step has" not in said

    changed, said = _launched(config, 2, 64, 6)
    assert changed == [0, 0]
    assert "a step has 128 rows from here on (2 ranks x data.batch_size), not 96 as before" in said


def test_only_at_another_number_of_ranks_batch_size_is_free(tmp_path: Path) -> None:
    config = load_config(default_setup(tmp_path, rows=100), ())
    then = config.model_dump(mode="json")
    then["data"]["batch_size"] = 32
    line = "data.batch_size: 32 then, 64 now"
    assert config_differences(then, config) == [line]
    assert config_differences(then, config, is_same_world=False) == []
    then["data"]["shuffle_rows"] = 1
    assert len(config_differences(then, config, is_same_world=False)) == 1


def test_manifests_without_legs_are_read_and_odd_ones_refused(
    chain: list[list[Trained]], run_folder: Path
) -> None:
    folder = max(run_folder.glob("runs/test/checkpoints/step-*"))
    path = folder / "manifest.json"
    text = path.read_text()
    cursors = json.loads(text)["cursors"]
    assert cursors[0]["legs"] == [{"world_size": 3, "rows": 96}]
    try:
        for cursor in cursors:
            del cursor["legs"]
        reseal(path, cursors=cursors)
        assert all(cursor.legs == () for cursor in read_manifest(folder).cursors)
        cursors[0]["epoch"] = 0
        reseal(path, cursors=cursors)
        with pytest.raises(CheckpointError, match="its ranks do not stand in one epoch"):
            read_manifest(folder)
    finally:
        path.write_text(text)
