"""What a probe's settings can't be together, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.trees import load, problems

_ROWS_AND_DROPOUT = (
    "balancer={name: marigold, probe: {rows: 0.5}}",
    "model={trunk: {name: mmoe}, dropout: 0.1}",
)


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        (
            "batch: next",
            "balancer.probe: batch: next can't go with scope: representation: its direction "
            "belongs to this batch's rows; set scope: shared_parameters, or batch: same",
        ),
        (
            "batch: next, scope: update",
            "balancer.probe: batch: next can't go with scope: update: its direction "
            "belongs to this batch's rows; set scope: shared_parameters, or batch: same",
        ),
        *(
            (
                f"scope: update, {key}: {value}",
                f"balancer.probe: {key} has no meaning with scope: update, which compares the "
                f"losses before and after the optimizers' step; leave {key} out",
            )
            for key, value in (("estimator", "jvp"), ("rows", 0.5), ("step", 0.01))
        ),
        (
            "scope: shared_parameters, batch: next, estimator: exact",
            "balancer.probe: estimator: exact is for reference only and needs batch: same",
        ),
        (
            "scope: shared_parameters, batch: next, every_n_steps: 1",
            "balancer.probe: batch: next can't go with every_n_steps: 1: a direction is measured "
            "one step later, under the weights that made it; set every_n_steps: 2 or more",
        ),
        ("rows: 0", "balancer.probe.rows: found 0; it must be greater than 0"),
        ("every_n_steps: 0", "balancer.probe.every_n_steps: found 0; it must be at least 1"),
        (
            "estimator: jpv",
            "balancer.probe.estimator: found 'jpv'; it must be 'forward_difference', "
            "'central_difference', 'jvp' or 'exact'",
        ),
    ],
)
def test_a_probe_that_can_not_be(tmp_path: Path, probe: str, said: str):
    assert problems(tmp_path, f"balancer={{name: marigold, probe: {{{probe}}}}}") == [said]


@pytest.mark.parametrize(
    "probe",
    [
        "",
        "rows: 0.25",
        "estimator: exact",
        "step: 0.01, adapt_step: false",
        "scope: shared_parameters, estimator: jvp",
        "scope: shared_parameters, batch: next, estimator: central_difference",
        "scope: update, every_n_steps: 1",
    ],
)
def test_a_probe_that_can_be(tmp_path: Path, probe: str):
    load(tmp_path, f"balancer={{name: marigold, probe: {{{probe}}}}}")


def test_part_of_the_rows_goes_with_a_direction_of_rows(tmp_path: Path):
    (line,) = problems(
        tmp_path, "balancer={name: marigold, probe: {scope: shared_parameters, rows: 0.5}}"
    )
    assert line.startswith(
        "balancer.probe: rows below 1 can't go with scope: shared_parameters, whose direction is "
        "that of all rows"
    )


def test_part_of_the_rows_goes_without_dropout(tmp_path: Path):
    assert problems(tmp_path, *_ROWS_AND_DROPOUT) == [
        "balancer.probe.rows: a probe of part of the rows can't repeat the dropout masks of the "
        "step (model.dropout is 0.1); set one of them to probe.rows: 1 or dropout: 0"
    ]
    load(tmp_path, _ROWS_AND_DROPOUT[0])


def test_a_primary_task_is_one_of_the_tasks(tmp_path: Path):
    assert problems(tmp_path, "balancer={name: marigold, primary: {task: cvr}}") == [
        "balancer.primary.task: there is no such task; did you mean 'ctr'?"
    ]
    assert problems(tmp_path, "balancer={name: marigold, primary: {task: ctr, min_share: 1}}") == [
        "balancer.primary.min_share: found 1; it must be less than 1"
    ]
    load(tmp_path, "balancer={name: marigold, primary: {task: ctr, min_share: 0.5}}")
