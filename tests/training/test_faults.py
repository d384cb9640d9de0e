"""Faults of docs/reliability.md that no other test file is about, each at a named step and rank."""

from __future__ import annotations

import ast
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import Tensor, nn
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbeddingBag
from torchrec.distributed.model_parallel import get_unwrapped_module

from marigold_rec.config.yaml_text import _Loader
from tests.support.launches import (
    PATIENT,
    AtBatch,
    AtStep,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
    summary,
)
from tests.support.ranks import run_ranks
from tests.support.runs import Run, click_log, default_setup, with_run, write_days
from tests.support.sealing import reseal

ROOT = Path(__file__).resolve().parents[2]
_LAST = "checkpoints/step-000000008"
_SETTINGS = ("model.dropout=0.2", "checkpoint.keep=9", PATIENT)


# Row 6: files of no rows.


def test_files_of_no_rows_change_nothing(tmp_path: Path) -> None:
    """One before, one after and one to evaluate on, with each rank's rows as ever."""
    config = default_setup(tmp_path, rows=1000)
    assert codes(launch_train(config, *_SETTINGS)) == [0, 0]
    for day in ("2024-01-01", "2024-01-02"):
        for name in ("part-", "part-99999"):
            file = tmp_path / f"log/dt={day}/{name}.parquet"
            pq.write_table(click_log(5).slice(0, 0), file, write_page_checksum=True)
    assert codes(launch_train(config, *_SETTINGS, "run.name=more")) == [0, 0]
    one, other = tmp_path / "runs/test", tmp_path / "runs/more"
    assert_same_tensors(
        checkpoint_tensors(other / _LAST, tmp_path), checkpoint_tensors(one / _LAST, tmp_path)
    )
    assert summary(other)["eval/auc/ctr"] == summary(one)["eval/auc/ctr"]


# Row 14: one backward per step.


def _updates(config: Path, overrides: tuple[str, ...], again: bool) -> list[list[int]]:
    """Of each of five steps, how often the backward wrote each group of tables on this rank.

    With `again` the objective sends its own scalar back first, so that there are two backwards;
    one step then, since DDP's reducer does not survive it.
    """

    def work(run: Run) -> list[list[int]]:
        task = get_unwrapped_module(run.built.model)
        counts: dict[str, int] = {}
        for i, lookup in enumerate(cast(Any, task).embeddings.ebc._lookups):
            for name, module in lookup.named_modules(prefix=str(i)):
                if isinstance(module, BatchedFusedEmbeddingBag):
                    _count_gradients(module, name, counts)
        if again:
            _send_back_twice(run.built.objective)
        batches, trace = run.trainer._all_batches(), []
        for _ in range(1 if again else 5):
            counts |= dict.fromkeys(counts, 0)
            run.trainer.pipeline.progress(batches)
            trace.append(list(counts.values()))
        return trace

    return with_run(config, overrides, work)


def _count_gradients(module: nn.Module, name: str, counts: dict[str, int]) -> None:
    """A gradient of a lookup's output is computed once per backward, which then writes the rows."""
    counts[name] = 0

    def count(_gradient: Tensor) -> None:
        counts[name] += 1

    def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
        if output.requires_grad:  # a probe's lookup has no backward
            output.register_hook(count)

    module.register_forward_hook(hook)


def _send_back_twice(objective: Any) -> None:
    forward = objective.forward

    def twice(z_BR: Tensor, batch: Any) -> Any:
        scalar, output = forward(z_BR, batch)
        scalar.backward(retain_graph=True)
        return scalar, output

    objective.forward = twice


@pytest.mark.parametrize(
    "probe",
    [
        "{scope: update, every_n_steps: 2}",
        "{scope: shared_parameters, estimator: jvp, every_n_steps: 2}",
        pytest.param(
            "{scope: shared_parameters, estimator: exact, every_n_steps: 2}", marks=pytest.mark.slow
        ),
    ],
)
def test_each_table_is_written_once_a_step_whatever_is_probed(tmp_path: Path, probe: str) -> None:
    config = default_setup(tmp_path, rows=1000)
    overrides = (f"balancer={{name: marigold, probe: {probe}}}", "sharding.default=row_wise")
    for found in run_ranks(_updates, 2, config, overrides, False, init_group=False, timeout_s=25):
        assert found[0], "no fused kernel was found"
        assert {count for step in found for count in step} == {1}


def test_a_second_backward_would_be_counted(tmp_path: Path) -> None:
    """Else a count of one would prove nothing."""
    config = default_setup(tmp_path, rows=1000)
    [found] = run_ranks(_updates, 1, config, (), True, init_group=False, timeout_s=25)
    assert {count for step in found for count in step} == {2}


# Row 15: the ranks weigh the tasks alike.


def _triple_loss(pipeline: Any) -> None:
    """This rank's rows of the first task lose three times as much from here on."""
    head = cast(Any, get_unwrapped_module(pipeline._model)).objective.network.heads[0]
    loss = head.loss
    head.loss = lambda output_BK, labels_B: 3 * loss(output_BK, labels_B)


def _weights(config: Path, overrides: tuple[str, ...], faults: tuple[AtStep, ...]) -> list[Tensor]:
    """The balancer's buffers and the dense parameters after each step."""
    for fault in faults:
        fault.install()

    def work(run: Run) -> list[Tensor]:
        trace: list[Tensor] = []
        progress = run.trainer.pipeline.progress

        def recorded(batches: Any) -> Any:
            output = progress(batches)
            objective = run.built.objective
            tensors = [*objective.balancer.buffers(), *objective.parameters()]
            trace.append(torch.cat([t.detach().double().flatten() for t in tensors]))
            return output

        setattr(run.trainer.pipeline, "progress", recorded)  # noqa: B010 - its type is narrower
        run.train()
        return trace

    return with_run(config, overrides, work)


def test_one_ranks_odd_losses_leave_all_ranks_with_the_same_weights(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    overrides = ("balancer.probe.every_n_steps=2", "run.epochs=2", PATIENT)
    found = [
        run_ranks(_weights, 2, config, (*overrides, f"run.name=n{len(faults)}"), faults,
                  init_group=False, timeout_s=25)
        for faults in ((), (AtStep(3, 1, _triple_loss),))
    ]  # fmt: skip
    for first, second in found:
        assert len(first) == len(second) == 16
        for step, (one, other) in enumerate(zip(first, second, strict=True)):
            assert torch.equal(one.nan_to_num(), other.nan_to_num()), step
    (straight, _), (odd, _) = found
    assert torch.equal(straight[2].nan_to_num(), odd[2].nan_to_num())
    assert not torch.equal(straight[-1].nan_to_num(), odd[-1].nan_to_num()), "no fault was injected"


# Row 16: no clock decides anything.


def _shuffle_clocks(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    for path, time_s in zip(files, random.sample(range(1, 2**31), len(files)), strict=True):
        os.utime(path, (time_s, time_s))


def test_wrong_clocks_change_nothing(tmp_path: Path) -> None:
    """Files' times shuffled, the newest checkpoint's oldest of all, and its save set in 1971."""
    config = default_setup(tmp_path, rows=1000)
    settings = (*_SETTINGS, "checkpoint.every_n_steps=2")
    run = tmp_path / "runs/test"
    assert codes(launch_train(config, *settings, "run.steps=6")) == [0, 0]
    newest = run / "checkpoints/step-000000006"
    reseal(newest / "manifest.json", saved_at="1971-01-01T00:00:00+00:00")
    _shuffle_clocks(tmp_path)
    for path in (*newest.iterdir(), newest):
        os.utime(path, (1, 1))
    ended = launch_train(config, *settings)
    assert codes(ended) == [0, 0]
    assert f"resumed from {newest} at step 6\n" in ended[0].said
    assert checkpoints(run) == [f"step-{step:09d}" for step in (2, 4, 6, 8)]
    assert codes(launch_train(config, *settings, "run.name=straight")) == [0, 0]
    assert_same_tensors(
        checkpoint_tensors(run / _LAST, tmp_path),
        checkpoint_tensors(tmp_path / "runs/straight" / _LAST, tmp_path),
    )


# Row 19: nothing that is read from a disk is run.

_RUNS_WHAT_IT_READS = {
    ("pickle", "load"), ("pickle", "Unpickler"), ("torch", "load"), ("yaml", "load"),
    ("yaml", "unsafe_load"), ("yaml", "full_load"), ("joblib", "load"), ("marshal", "loads"),
    ("shelve", "open"), ("dill", "load"),
}  # fmt: skip


def _calls(source: str) -> list[tuple[str, str]]:
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    dotted = [
        (func.value.id, func.attr)
        for func in calls
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name)
    ]
    return dotted + [("", func.id) for func in calls if isinstance(func, ast.Name)]


def _suspects(source: str) -> list[str]:
    found = [
        f"{module}.{name}".lstrip(".")
        for module, name in _calls(source)
        if (module, name) in _RUNS_WHAT_IT_READS or (not module and name in ("eval", "exec"))
    ]
    imported = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (node.module, alias.name) in _RUNS_WHAT_IT_READS
    ]
    return found + imported


def test_the_search_finds_what_it_looks_for() -> None:
    bad = "import torch\ntorch.load(p)\nfrom pickle import load\neval('1')\nmodel.eval()\n"
    assert _suspects(bad) == ["torch.load", "eval", "pickle.load"]


def test_no_file_is_unpickled_or_evaluated() -> None:
    """Beside the restricted unpickler of checkpoint/dcp_metadata.py, which is a subclass.

    Elsewhere ruff's S506 refuses yaml.load without a safe loader; here the loader is looked at.
    """
    found: dict[str, list[str]] = {}
    for top in ("marigold_rec", "models", "data_pipelines", "jobs", "launch"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if suspects := _suspects(path.read_text(encoding="utf-8")):
                found[str(path.relative_to(ROOT))] = suspects
    assert found == {"marigold_rec/config/yaml_text.py": ["yaml.load"]}
    assert issubclass(_Loader, yaml.SafeLoader)


# Row 21: a training file that changes while it is read.


@dataclass(frozen=True)
class _WriteAgain:
    """The training day's file gets other rows, as many, from this batch on."""

    log: Path

    def __call__(self, _reader: Any) -> None:
        write_days(self.log, {"2024-01-01": click_log(20_000, seed=5)})


def test_a_file_written_again_while_a_run_reads_it_ends_all_ranks(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=20_000)
    fault = AtBatch(9, 1, _WriteAgain(tmp_path / "log"))
    ended = launch_train(config, *_SETTINGS, faults=(fault,))
    assert codes(ended) == [3, 3]
    assert "part-00000.parquet" in ended[0].said
    assert "the file was replaced while" in ended[0].said
    # What was trained before is saved, but nothing goes on from there over other rows.
    run = tmp_path / "runs/test"
    assert "the file was replaced while" in summary(run)["error"]
    assert len(checkpoints(run)) == 1
    ended = launch_train(config, *_SETTINGS)
    assert codes(ended) == [5, 5]
    assert "the training files are not those of its run" in ended[0].said


# Row 23: two starts of one run.


@dataclass(frozen=True)
class _WaitFor:
    path: Path

    def __call__(self, _object: Any) -> None:
        deadline = time.monotonic() + 25
        while not self.path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)


def test_of_two_starts_at_once_one_trains_and_the_other_is_refused(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    settings = (*_SETTINGS, "checkpoint.every_n_steps=2")
    run, go_on = tmp_path / "runs/test", tmp_path / "go on"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(
            launch_train,
            config,
            *settings,
            faults=(AtStep(5, 0, _WaitFor(go_on)),),
            timeout_s=25,
            idle_s=20,  # while the other start goes and ends
        )
        try:
            deadline = time.monotonic() + 25
            while len(checkpoints(run)) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            (run / "checkpoints/step-000000009.tmp-0123abcd").mkdir()
            second = launch_train(config, *settings, timeout_s=25)
            assert (run / "checkpoints/step-000000009.tmp-0123abcd").exists(), "the second cleanup"
        finally:
            go_on.touch()
        assert codes(first.result()) == [0, 0]
    assert codes(second) == [2, 2]
    assert f"run.name: another process is writing to {run}" in second[0].said
    assert (summary(run)["status"], summary(run)["step"]) == ("done", 8)
    assert codes(launch_train(config, *settings, "run.name=alone")) == [0, 0]
    assert_same_tensors(
        checkpoint_tensors(run / _LAST, tmp_path),
        checkpoint_tensors(tmp_path / "runs/alone" / _LAST, tmp_path),
    )
