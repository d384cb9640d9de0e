"""DeepCTR-Torch's MMOE in its own `compile` and `fit`, as they ship: Adam, L2 1e-5 on embeddings.

Choices, each in the peer's favour or ours alike:
- `gate_dnn_hidden_units=()`: gates of one linear layer, as in the other two (it ships a hidden
  layer of 64 before each gate).
- no metrics and `verbose=0`: `fit` would compute them on every batch.
- `fit` makes its own in-memory DataLoader; it can't be handed another.
Changes needed to make it run: its import of `requests` is undeclared (requirements.txt adds it),
and its version check over the network is answered locally at once.
Away from what ships, on request: `--l2-embedding 0`, `--optimizer adagrad` (its PLE example's).
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import requests
import steady
import torch


def _no_network(*_: Any, **__: Any) -> Any:
    raise requests.ConnectionError("the benchmark runs without a network")


requests.get = _no_network  # before the import below: it starts the version check

from deepctr_torch.inputs import SparseFeat  # noqa: E402
from deepctr_torch.models import MMOE  # noqa: E402


def main() -> None:
    parser = steady.parser(__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=("adam", "adagrad"), default="adam")
    parser.add_argument("--l2-embedding", type=float, default=1e-5, help="ships as 1e-5")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = steady.load_rows(arguments.data, (arguments.warmup + arguments.steps) * arguments.batch)

    columns = [
        SparseFeat(name, vocabulary_size=steady.TABLE_ROWS, embedding_dim=steady.DIM)
        for name in steady.FEATURES
    ]
    model = MMOE(
        columns,
        num_experts=steady.EXPERTS,
        expert_dnn_hidden_units=tuple(steady.EXPERT_LAYERS),
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=tuple(steady.TOWER_LAYERS),
        l2_reg_embedding=arguments.l2_embedding,
        task_types=["binary"] * len(steady.TASKS),
        task_names=steady.TASKS,
        device="cpu",
    )
    model.compile(arguments.optimizer, loss="binary_crossentropy", metrics=None)
    clock = steady.StepClock(model.optim)
    history = model.fit(
        dict(rows.ids), rows.labels, batch_size=arguments.batch, epochs=1, verbose=0
    )
    print(
        clock.report(
            "DeepCTR-Torch 0.3.0 MMOE",
            arguments.batch,
            arguments.warmup,
            arguments.steps,
            optimizer=type(model.optim).__name__,
            l2_embedding=arguments.l2_embedding,
            parameters=sum(p.numel() for p in model.parameters()),
            mean_loss=float(history.history["loss"][0]),
        )
    )


if __name__ == "__main__":
    main()
