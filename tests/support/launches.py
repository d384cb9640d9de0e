"""Runs the real launch/train.py on forked ranks, with faults at a named step of a named rank.

The ranks take the command line that a person would type; what they said and the exit code that each
one ended with come back.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch
from torch import Tensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.support.patience import IDLE_S, LIMIT_S, MOST_S
from tests.support.ranks import run_ranks

# Longer than any test may take: a rank that waits for a peer must show as a hang, not as a time-out
# of the collective that another rank's error set off.
PATIENT = "distributed.timeout_s=600"


class Fault(Protocol):
    """Something that goes wrong; picklable, installed on every rank before the run begins."""

    def install(self) -> None: ...


@dataclass(frozen=True)
class AtStep:
    """Calls `action(pipeline)` on one rank (None: on all) just before its step's forward."""

    step: int
    rank: int | None
    action: Callable[[Any], None]

    def install(self) -> None:
        if self.rank is not None and _rank() != self.rank:
            return
        from marigold_rec.training.pipeline import TrainPipeline

        forward = TrainPipeline._forward

        def faulty(pipeline: Any, batch: Any) -> Any:
            if batch.step == self.step:
                self.action(pipeline)
            return forward(pipeline, batch)

        setattr(TrainPipeline, "_forward", faulty)  # noqa: B010 - its own type is narrower


@dataclass(frozen=True)
class AtBatch:
    """Calls `action(reader)` on one rank just before it reads batch `batch` of a pass over data."""

    batch: int
    rank: int
    action: Callable[[Any], None]
    pass_number: int = 0

    def install(self) -> None:
        if _rank() != self.rank:
            return
        from data_pipelines.reading.reader import ParquetReader

        batches = ParquetReader.batches
        passes = itertools.count()

        def faulty(reader: ParquetReader, start: Any) -> Iterator[Any]:
            is_faulty = next(passes) == self.pass_number
            for index, batch in enumerate(batches(reader, start)):
                if is_faulty and index == self.batch:
                    if self.action is end_early:
                        return
                    self.action(reader)
                yield batch

        ParquetReader.batches = faulty  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class Raise:
    """An action that raises `error`."""

    error: Exception

    def __call__(self, _object: Any) -> None:
        raise self.error


def end_early(_reader: Any) -> None:
    """For AtBatch: the reader ends before this batch."""


def ask_to_stop(_object: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def die(_object: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def spoil_loss(pipeline: Any) -> None:
    """The loss of the first task becomes infinite from here on."""
    head = _task(pipeline).objective.network.heads[0]
    loss = head.loss
    head.loss = lambda output_BK, labels_B: loss(output_BK, labels_B) + torch.inf


def spoil_gradient(pipeline: Any) -> None:
    """The gradient of the first dense parameter, though the loss is as it should be."""
    parameter = next(_task(pipeline).objective.network.parameters())
    parameter.register_hook(lambda gradient: gradient * torch.inf)


def spoil_dense(pipeline: Any) -> None:
    next(_task(pipeline).objective.network.parameters()).detach().fill_(torch.nan)


def spoil_table(pipeline: Any) -> None:
    """All rows of this rank's shards."""
    for name, tensor in pipeline._model.state_dict().items():
        if ".embedding_bags." in name:
            for shard in tensor.to_local().local_shards():
                shard.fill_(torch.nan)


@dataclass(frozen=True)
class Ended:
    """How one rank ended, and what it said on stdout and stderr."""

    code: int
    said: str


def launch_train(
    config: Path,
    *arguments: str,
    num_ranks: int = 2,
    faults: tuple[Fault, ...] = (),
    timeout_s: float = LIMIT_S,
    idle_s: float = IDLE_S,
) -> list[Ended]:
    """What `torchrun --nproc-per-node N launch/train.py --config FILE ...` does, by rank."""
    return run_ranks(
        train_main,
        num_ranks,
        ("--config", str(config), *arguments),
        faults,
        timeout_s=timeout_s,
        idle_s=idle_s,
        init_group=False,
    )


def launch_evaluate(
    *arguments: str, num_ranks: int = 1, faults: tuple[Fault, ...] = (), timeout_s: float = MOST_S
) -> list[Ended]:
    """What `torchrun --nproc-per-node N launch/evaluate.py ...` does, by rank."""
    return run_ranks(
        evaluate_main, num_ranks, arguments, faults, timeout_s=timeout_s, init_group=False
    )


def train_main(arguments: tuple[str, ...], faults: tuple[Fault, ...] = ()) -> Ended:
    """One rank of `launch_train`."""
    from launch.train import main

    return _ended(main, ("launch/train.py", *arguments), faults)


def evaluate_main(arguments: tuple[str, ...], faults: tuple[Fault, ...] = ()) -> Ended:
    """One rank of `launch_evaluate`."""
    from launch.evaluate import main

    return _ended(main, ("launch/evaluate.py", *arguments), faults)


def _ended(main: Callable[[], int], argv: tuple[str, ...], faults: tuple[Fault, ...]) -> Ended:
    for fault in faults:
        fault.install()
    sys.argv = list(argv)
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(_Both(said, sys.stdout)),
        contextlib.redirect_stderr(_Both(said, sys.stderr)),
    ):
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        except Exception:  # as the interpreter ends a process
            traceback.print_exc()
            code = 1
    assert isinstance(code, int), code
    return Ended(code, said.getvalue())


def codes(ended: list[Ended]) -> list[int]:
    return [rank.code for rank in ended]


def strict_json(text: str) -> Any:
    """Parses JSON and nothing else: Python also takes NaN and Infinity."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def summary(run_folder: Path) -> dict[str, Any]:
    return strict_json((run_folder / "summary.json").read_text())


def checkpoints(run_folder: Path) -> list[str]:
    """Everything below checkpoints/; nothing when there is no such folder."""
    return sorted(p.name for p in run_folder.glob("checkpoints/*"))


def checkpoint_tensors(folder: Path, scratch: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by name, sharded ones whole."""
    target = scratch / f"{folder.name}.pt"
    dcp_to_torch_save(str(folder), str(target))
    tensors = torch.load(target, weights_only=True)
    target.unlink()
    assert all(isinstance(tensor, Tensor) for tensor in tensors.values())
    return tensors


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert not different, different


class _Both(io.StringIO):
    """Keeps a copy, and passes on, so that a rank that hangs still shows what it said."""

    def __init__(self, copy: io.StringIO, stream: TextIO) -> None:
        super().__init__()
        self._copy, self._stream = copy, stream

    def write(self, text: str) -> int:
        self._copy.write(text)
        return self._stream.write(text)

    def fileno(self) -> int:
        return self._stream.fileno()

    def flush(self) -> None:
        self._stream.flush()


def _rank() -> int:
    return int(os.environ["RANK"])


def _task(pipeline: Any) -> Any:
    from torchrec.distributed.model_parallel import get_unwrapped_module

    return get_unwrapped_module(pipeline._model)
