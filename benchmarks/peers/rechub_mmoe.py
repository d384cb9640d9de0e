"""torch-rechub's MMOE in its own MTLTrainer, as it ships: Adam(lr 1e-3, weight decay 1e-5).

Differences from calling `MTLTrainer.fit`, each in the peer's favour:
- `train_one_epoch` is called directly: `fit` would go on to evaluate, to deep-copy the 1.7 GB of
  weights and to write them.
- `--loader preloaded` (default) gives the trainer ready-made tensor batches. The loader that ships
  (`DataGenerator`, here `--loader shipped`) gathers 26 values per row in Python.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import numpy as np
import steady
import torch
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import MMOE
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator


def main() -> None:
    parser = steady.parser(__doc__.splitlines()[0])
    parser.add_argument("--loader", choices=("preloaded", "shipped"), default="preloaded")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(7)
    rows = steady.load_rows(arguments.data, (arguments.warmup + arguments.steps) * arguments.batch)

    features = [
        SparseFeature(name, vocab_size=steady.TABLE_ROWS, embed_dim=steady.DIM)
        for name in steady.FEATURES
    ]
    task_types = ["classification"] * len(steady.TASKS)
    model = MMOE(
        features,
        task_types,
        n_expert=steady.EXPERTS,
        expert_params={"dims": steady.EXPERT_LAYERS},
        tower_params_list=[{"dims": steady.TOWER_LAYERS} for _ in steady.TASKS],
    )
    trainer = MTLTrainer(model, task_types=task_types)
    clock = steady.StepClock(trainer.optimizer)
    if arguments.loader == "preloaded":
        batches = _preloaded(rows, arguments.batch)
    else:
        batches = _shipped(rows, arguments.batch)
    losses = trainer.train_one_epoch(batches)
    print(
        clock.report(
            "torch-rechub 0.9.0 MMOE",
            arguments.batch,
            arguments.warmup,
            arguments.steps,
            optimizer=type(trainer.optimizer).__name__,
            loader=arguments.loader,
            parameters=sum(p.numel() for p in model.parameters()),
            mean_losses=[float(x) for x in losses],
        )
    )


def _preloaded(rows: steady.Rows, batch: int) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    ids = {
        name: torch.from_numpy(np.array(column)).split(batch) for name, column in rows.ids.items()
    }
    labels = torch.from_numpy(rows.labels).split(batch)
    return [({name: ids[name][i] for name in ids}, y) for i, y in enumerate(labels)]


def _shipped(rows: steady.Rows, batch: int) -> torch.utils.data.DataLoader:
    few = {name: column[:batch] for name, column in rows.ids.items()}
    loaders = DataGenerator(rows.ids, rows.labels).generate_dataloader(
        x_val=few,
        y_val=rows.labels[:batch],
        x_test=few,
        y_test=rows.labels[:batch],
        batch_size=batch,
    )
    return loaders[0]


if __name__ == "__main__":
    main()
