"""A loss that is not finite stops the step before its backward, on all ranks.

The tables are written inside the backward, so tables and parameters stay those of the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from torch import Tensor

from marigold_rec.errors import NumericsError
from tests.support.launches import (
    PATIENT,
    AtStep,
    assert_same_tensors,
    checkpoints,
    codes,
    launch_train,
    spoil_dense,
    spoil_gradient,
    spoil_loss,
    spoil_table,
    summary,
)
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

_BAD_STEP, _LAST_STEP = 5, 7
_SETTINGS = ("sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}", PATIENT)


def _state_after(config: Path, overrides: tuple[str, ...], faults: tuple[AtStep, ...]) -> Any:
    """What a training holds after its end, and the message of the error that ended it."""
    for fault in faults:
        fault.install()

    def work(run: Run) -> tuple[dict[str, Tensor], str | None]:
        message = None
        try:
            run.train()
        except NumericsError as error:
            message = str(error)
        return run.tensors(), message

    return with_run(config, overrides, work)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_loss, "ctr: loss inf"),
        pytest.param(spoil_dense, "ctr: loss nan", marks=pytest.mark.slow),
    ],
)
def test_tables_and_parameters_are_those_of_the_step_before(
    tmp_path: Path, spoil: Callable[[Any], None], named: str
) -> None:
    config = default_setup(tmp_path, rows=1000)
    fault = AtStep(_BAD_STEP, 1, spoil)
    stopped = run_ranks(
        _state_after, 2, config, _SETTINGS, (fault,), timeout_s=25, init_group=False
    )
    good = run_ranks(
        _state_after,
        2,
        config,
        (*_SETTINGS, f"run.steps={_BAD_STEP}", "run.name=good"),
        (),
        timeout_s=25,
        init_group=False,
    )
    assert good[0][1] is None
    for rank, (tensors, message) in enumerate(stopped):
        assert message is not None
        assert message.startswith(f"step {_BAD_STEP}: not finite ({named}")
        assert message == stopped[0][1], "the ranks tell different stories"
        expected = dict(good[rank][0])
        if spoil is spoil_dense and rank == 1:  # the parameter that the test itself has spoilt
            name = next(n for n, t in tensors.items() if t.isnan().all())
            del tensors[name], expected[name]
        assert_same_tensors(tensors, expected)


@pytest.mark.parametrize(
    ("spoil", "rank", "bad_tasks"),
    [
        (spoil_loss, 1, ["ctr"]),
        pytest.param(spoil_dense, 0, ["ctr", "cvr", "watch_time"], marks=pytest.mark.slow),
        pytest.param(spoil_table, 1, ["ctr", "cvr", "watch_time"], marks=pytest.mark.slow),
    ],
)
def test_the_run_ends_with_4_and_names_tasks_and_files(
    tmp_path: Path, spoil: Callable[[Any], None], rank: int, bad_tasks: list[str]
) -> None:
    config = default_setup(tmp_path, rows=1000)
    ended = launch_train(
        config,
        *_SETTINGS,
        "checkpoint.every_n_steps=2",
        faults=(AtStep(_BAD_STEP, rank, spoil),),
    )
    assert codes(ended) == [4, 4]
    run = tmp_path / "runs/test"
    found = summary(run)
    assert (found["status"], found["exit_code"]) == ("failed", 4)
    assert f"NumericsError: {found['error']}" in ended[0].said
    losses, _, where = found["error"].partition(");")
    for task in ("ctr", "cvr", "watch_time"):
        assert (f"{task}: loss nan" in losses or f"{task}: loss inf" in losses) == (
            task in bad_tasks
        )
    assert f"rank {rank} read " in where
    assert "part-00000.parquet" in where
    assert checkpoints(run) == ["step-000000002", "step-000000004"], "a bad state was saved"


def test_a_state_after_a_bad_gradient_is_not_saved(tmp_path: Path) -> None:
    """The last step's loss is finite, its gradient is not: no later loss would show it."""
    config = default_setup(tmp_path, rows=1000)
    fault = AtStep(_LAST_STEP, 1, spoil_gradient)
    ended = launch_train(config, *_SETTINGS, "checkpoint.every_n_steps=6", faults=(fault,))
    assert codes(ended) == [4, 4]
    assert "the last gradient of the dense part is not finite" in ended[0].said
    assert checkpoints(tmp_path / "runs/test") == ["step-000000006"]


def test_large_inputs_of_any_rank_are_named_before_the_learning_rates(tmp_path: Path) -> None:
    """Raw numbers are more often to blame than a rate; here only the second rank reads them."""
    log = click_log(1000)
    price = log["price"].to_numpy().copy()
    price[500:] = 3e38
    log = log.set_column(log.schema.get_field_index("price"), "price", pa.array(price))
    data = write_days(tmp_path / "log", {"2024-01-01": log})
    tree = config_tree(data, tmp_path / "runs")
    tree["data"]["eval"] = None
    tree["features"][-1] = {"name": "raw_price", "kind": "dense", "column": "price"}
    ended = launch_train(write_config(tree, tmp_path / "config.yaml"), PATIENT)
    assert codes(ended) == [4, 4]
    said = summary(tmp_path / "runs/test")["error"]
    assert said.index("raw_price reaches 3e+38") < said.index("optimizer.*.lr")
