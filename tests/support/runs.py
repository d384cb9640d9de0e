"""Small real runs: a log with something to learn, a config over it, and the pieces of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
import yaml
from torch import Tensor

from jobs.assembly.data import Data, eval_reader, find_data, train_reader
from jobs.assembly.model import BuiltModel, build_model
from marigold_rec.checkpoint import CheckpointStore
from marigold_rec.config import Config, load_config
from marigold_rec.distributed import Ranks, start_ranks
from marigold_rec.training import Evaluation, Outcome, RunLog, StopRequest, Trainer, evaluate
from marigold_rec.training.monitoring.run_log import quiet_third_parties
from marigold_rec.transforms.row_bits import ADMITTED_NAME, row_bits_bytes

Result = TypeVar("Result")


def click_log(rows: int, seed: int = 0) -> pa.Table:
    """Rows with every feature kind and three linked labels; `row` counts them."""
    random = np.random.default_rng(seed)
    user, item = random.integers(0, 400, rows), random.integers(0, 150, rows)
    lengths = random.integers(0, 5, rows)
    history = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()),
        pa.array(random.integers(0, 150, lengths.sum()), pa.int64()),
    )
    price = random.lognormal(1.0, 1.0, rows).astype(np.float32)
    appeal = np.sin(user * 0.7) + np.cos(item * 1.3)
    click = random.random(rows) < 1 / (1 + np.exp(-1.5 * appeal))
    conversion = random.random(rows) < 1 / (1 + np.exp(-2 * np.cos(item * 1.3) + 0.3 * price))
    watch = np.exp(2 + np.sin(item * 0.9) + 0.3 * random.standard_normal(rows))
    return pa.table(
        {
            "row": pa.array(np.arange(rows)),
            "user": pa.array(user),
            "item": pa.array(item),
            "history": history,
            "price": pa.array(price),
            "click": pa.array(click.astype(np.int8)),
            "conversion": pa.array(conversion.astype(np.int8), mask=~click),
            "watch_s": pa.array(watch.astype(np.float32), mask=~click),
        }
    )


def write_days(folder: Path, days: Mapping[str, pa.Table], row_group_rows: int = 700) -> Path:
    """Hive-style dt= folders below `folder`, with page checksums."""
    for day, table in days.items():
        target = folder / f"dt={day}"
        target.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            table,
            target / "part-00000.parquet",
            row_group_size=row_group_rows,
            write_page_checksum=True,
        )
    return folder


def config_tree(data: Path, runs: Path) -> dict[str, Any]:
    """A config over `click_log` with train day 2024-01-01 and evaluation day 2024-01-02."""
    return {
        "run": {"name": "test", "dir": str(runs), "seed": 3, "device": "cpu"},
        "data": {
            "path": str(data),
            "train": {"dates": ["2024-01-01", "2024-01-01"]},
            "eval": {"dates": ["2024-01-02", "2024-01-02"]},
            "batch_size": 64,
            "shuffle_rows": 512,
        },
        "features": [
            {"name": "user", "kind": "hash", "rows": 401, "dim": 8},
            {"name": "item", "kind": "id", "rows": 150, "dim": 8},
            {"name": "history", "kind": "id", "table": "item", "pooling": "mean"},
            {"name": "price_band", "kind": "bucketize", "column": "price", "boundaries": [1, 3, 9],
             "dim": 4},
            {"name": "price", "kind": "dense", "transform": "log1p"},
        ],
        "tasks": [
            {"name": "ctr", "kind": "binary", "label": "click"},
            {"name": "cvr", "kind": "binary", "label": "conversion", "given": "ctr"},
            {"name": "watch_time", "kind": "duration", "label": "watch_s",
             "given": "ctr"},
        ],
        "model": {
            "trunk": {"name": "mmoe", "experts": 3, "expert_layers": [16, 8]},
            "tower_layers": [8],
        },
        "balancer": {"name": "marigold", "probe": {"every_n_steps": 3, "warmup_steps": 0}},
        "logging": {"every_n_steps": 5, "tensorboard": False},
        "distributed": {"timeout_s": 20, "threads_per_rank": 1},
    }  # fmt: skip


def write_config(tree: Mapping[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(dict(tree), sort_keys=False))
    return path


def default_setup(folder: Path, rows: int = 4000) -> Path:
    """Two days of log and a config file for them; returns the config's path."""
    data = write_days(
        folder / "log",
        {"2024-01-01": click_log(rows), "2024-01-02": click_log(rows // 2, seed=1)},
    )
    return write_config(config_tree(data, folder / "runs"), folder / "config.yaml")


@dataclass(frozen=True)
class Run:
    """The pieces of a run on this rank, built as jobs/training/run.py builds them."""

    config: Config
    ranks: Ranks
    data: Data
    built: BuiltModel
    trainer: Trainer
    store: CheckpointStore

    def train(self, stop: StopRequest | None = None) -> Outcome:
        """Trains to the end, logging nowhere. Collective."""
        log = RunLog(Path("/dev/null"), is_first=False, tensorboard=False)
        return self.trainer.train(log, stop or StopRequest())

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model, tables gathered whole, on every rank. Collective."""
        return {
            name: gathered(tensor, self.ranks)
            for name, tensor in self.built.model.state_dict().items()
        }

    def evaluation(self) -> Evaluation:
        """As at the end of a run. Collective."""
        reader = eval_reader(self.config, self.data, self.ranks)
        assert reader is not None
        return evaluate(
            self.built.model,
            self.built.objective.network,
            reader,
            self.config.tasks,
            self.ranks,
            StopRequest(),
            run_folder=Path(self.config.run.dir) / self.config.run.name,
        )

    def predictions(self) -> Tensor:
        """Predictions for this rank's evaluation rows in file order, [rows, tasks]. Collective."""
        reader = eval_reader(self.config, self.data, self.ranks)
        assert reader is not None
        model = self.built.model.eval()
        with torch.no_grad():
            found = [model(batch)[: batch.num_rows] for batch in reader.batches()]
        model.train()
        return torch.cat(found)


def with_run(
    config_path: Path, overrides: tuple[str, ...], work: Callable[[Run], Result]
) -> Result:
    """Builds a run on this rank, hands it to `work`, and leaves the process group."""
    quiet_third_parties()
    config = load_config(config_path, overrides)
    with start_ranks(config) as ranks:
        data = find_data(config, ranks)
        built = build_model(config, ranks)
        folder = Path(config.run.dir) / config.run.name
        folder.mkdir(parents=True, exist_ok=True)
        files = {ADMITTED_NAME: row_bits_bytes(data.admitted)} if data.admitted else {}
        store = CheckpointStore(folder / "checkpoints", ranks, config, files=files)
        reader = train_reader(config, data, ranks)
        trainer = Trainer(config, ranks, built.model, built.objective, reader, store)
        return work(Run(config, ranks, data, built, trainer, store))


def gathered(tensor: Tensor, ranks: Ranks) -> Tensor:
    """The whole of a sharded tensor, on every rank; others as they are. Collective."""
    if not hasattr(tensor, "to_local"):
        return tensor.detach().clone()
    local = tensor.to_local()  # pyright: ignore[reportAttributeAccessIssue]
    mine = [
        (tuple(offset), shard.clone())
        for shard, offset in zip(local.local_shards(), local.local_offsets(), strict=False)
    ]
    pieces: list[list[tuple[tuple[int, ...], Tensor]]] = [[] for _ in range(ranks.world_size)]
    dist.all_gather_object(pieces, mine, group=ranks.control)
    placed = [piece for rank in pieces for piece in rank]
    ndim = placed[0][1].ndim
    shape = [max(offset[d] + part.shape[d] for offset, part in placed) for d in range(ndim)]
    whole = torch.full(shape, torch.nan)
    for offset, part in placed:
        whole[tuple(slice(o, o + n) for o, n in zip(offset, part.shape, strict=False))] = part
    return whole
