"""A small smooth network behind the real Objective, and exact gradients to hold it against.

Shapes: B rows, R width of the representation, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from marigold_rec.balancing import Marigold, Probe
from marigold_rec.batch import Batch, Cursor
from marigold_rec.config.balancers import MarigoldBalancerConfig
from marigold_rec.contracts import Head, Labels, StopGradient
from marigold_rec.inputs import InputLayout, Inputs, slots_of
from marigold_rec.network import Network, Stages
from marigold_rec.training import Objective, StepOutput
from marigold_rec.training.balancer_probe import BalancerProbe
from marigold_rec.training.losses import global_losses
from marigold_rec.training.probing import Lookup
from tests.balancing._inputs import EVERY_STEP, task_names


def _no_lookup(_batch: Batch) -> Inputs:
    raise AssertionError("this probe needs no lookup")


def probe_before(objective: Objective, output: StepOutput) -> None:
    """The hook's part before the optimizer's step."""
    BalancerProbe(objective.prober, _no_lookup).before_optimizer(output)


def probe_after(objective: Objective, output: StepOutput, lookup: Lookup) -> None:
    """The hook's part after the optimizer's step."""
    BalancerProbe(objective.prober, lookup).after_optimizer(output)


class _Head(nn.Module):
    """Cross-entropy of a yes/no label, or squared error; in the dtype of its input."""

    kinds = ("binary", "duration")
    columns = ("",)

    def __init__(self, width: int, is_binary: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self._is_binary = is_binary

    def forward(self, tower_BH: Tensor) -> Tensor:
        return self.linear(tower_BH)

    def target(self, label_B: Tensor) -> Tensor:
        return label_B

    def init_bias(self, mean_target: float, num_rows: float) -> None:
        """Begins at zero."""

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        output_B = output_BK.squeeze(1)
        if self._is_binary:
            return F.binary_cross_entropy_with_logits(output_B, label_B, reduction="none")
        return (output_B - label_B).square()

    def predict(self, output_BK: Tensor) -> Tensor:
        return output_BK


class _Trunk(nn.Sequential):
    """One shared layer; all tasks read its output."""

    out_width = 16

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, 24), nn.Tanh(), nn.Dropout(dropout), nn.Linear(24, 16), nn.SiLU()
        )


class _NoTowers(nn.Module):
    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self._num_tasks = num_tasks

    def forward(self, h_BH: Tensor) -> Tensor:
        return h_BH.expand(self._num_tasks, -1, -1)


class _Term:
    """A head's loss where its label is observed."""

    def __init__(self, task: str, head: _Head) -> None:
        self._task, self._head = task, head

    @staticmethod
    def extra_heads(task: Any, width: int) -> dict[str, Head]:
        return {}

    def rows(
        self, outputs: Mapping[str, Tensor], labels: Labels, stop_gradient: StopGradient
    ) -> tuple[Tensor, Tensor]:
        loss_B = self._head.loss(outputs[self._task], labels.value(self._task))
        return loss_B, labels.weights_B * labels.observed(self._task)


class SmallNetwork(Network):
    """The real Network around a small smooth trunk; every third task is a regression."""

    def __init__(self, width: int, num_tasks: int, dropout: float = 0.0) -> None:
        names = task_names(num_tasks)
        trunk = _Trunk(width, dropout)
        heads = {name: _Head(16, i % 3 != 2) for i, name in enumerate(names)}
        as_heads = cast(Mapping[str, Head], heads)
        super().__init__(
            InputLayout(pooled=slots_of([("z", width)]), dense=()),
            names,
            {name: _Term(name, head) for name, head in heads.items()},
            Stages([], [], trunk, _NoTowers(num_tasks), as_heads),
        )


class RecordingMarigold(Marigold):
    """Keeps the last probe."""

    last: Probe

    def observe(self, probe: Probe) -> None:
        self.last = probe
        super().observe(probe)


def marigold(
    num_tasks: int, *, probe: dict[str, object] | None = None, **settings: object
) -> RecordingMarigold:
    """A Marigold that probes every step, unless told otherwise."""
    config = MarigoldBalancerConfig.model_validate(
        {"name": "marigold", "probe": EVERY_STEP | (probe or {}), **settings}
    )
    return RecordingMarigold(config, task_names(num_tasks))


def make_batch(rows: int, num_tasks: int, seed: int, dtype: torch.dtype = torch.float32) -> Batch:
    """Random labels; each task is observed on two rows of three, the weights are mixed."""
    random = torch.Generator().manual_seed(seed)
    labels_BT = torch.rand(rows, num_tasks, generator=random).round()
    labels_BT[:, 2::3] += torch.randn(rows, len(range(2, num_tasks, 3)), generator=random)
    observed_BT = (torch.rand(rows, num_tasks, generator=random) < 0.67).to(dtype)
    return Batch(
        sparse=KeyedJaggedTensor.empty(),
        dense_BD=torch.zeros(rows, 0, dtype=dtype),
        labels_BT=labels_BT.to(dtype) * observed_BT,
        observed_BT=observed_BT,
        weights_B=torch.rand(rows, generator=random).to(dtype) + 0.5,
        num_rows=rows,
        cursor=Cursor(0, rows),
    )


def one_rank() -> dist.ProcessGroup:
    """A group of this process alone; nothing has to be initialised for it."""
    return dist.ProcessGroup(HashStore(), 0, 1)


def task_gradients(network: SmallNetwork, z_BR: Tensor, batch: Batch) -> Tensor:
    """dL_i/dz by one autograd backward per task, [T, B * R]."""
    z_BR = z_BR.detach().requires_grad_()
    outputs = network(Inputs(z_BR, batch.dense_BD))
    local_T = global_losses(network, outputs, batch, one_rank()).local_T
    return torch.stack(
        [torch.autograd.grad(f, z_BR, retain_graph=True)[0].flatten() for f in local_T]
    )
