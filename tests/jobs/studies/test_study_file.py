"""Study files: what they plan, and what is refused, with the exact words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.studies.plan import make_plan
from marigold_rec.config import load_config
from marigold_rec.errors import ConfigError
from tests.jobs.studies.inputs import study_tree, write_study

ROOT = Path(__file__).resolve().parents[3]


def test_a_plan_goes_seed_by_seed_over_balancers_and_single_tasks(tmp_path: Path) -> None:
    plan = make_plan(write_study(tmp_path, study_tree()))
    names = ["equal", "hand", "marigold"]
    names += ["single-task-ctr", "single-task-cvr", "single-task-watch_time"]
    assert list(plan.trials()) == [(name, seed) for seed in (1, 2) for name in names]


def test_each_config_is_the_shared_one_with_its_balancer(tmp_path: Path) -> None:
    tree = study_tree() | {"overrides": ["data.batch_size=128", "model.trunk.experts=5"]}
    plan = make_plan(write_study(tmp_path, tree), ["model.trunk.experts=6"])
    equal, marigold = plan.configs["equal"], plan.configs["marigold"]
    assert (equal.data.batch_size, equal.balancer.name) == (128, "static")
    assert equal.model.trunk.model_dump()["experts"] == 6, "the command line comes last"
    assert marigold.balancer.model_dump()["probe"]["every_n_steps"] == 10, "the config's own is 3"
    assert (equal.optimizer.dense.lr, marigold.optimizer.dense.lr) == (1e-3, 0.1)
    changed = {"balancer", "optimizer"}
    assert equal.model_dump(exclude=changed) == marigold.model_dump(exclude=changed)


def test_a_single_task_model_has_one_task_and_equal_weights(tmp_path: Path) -> None:
    plan = make_plan(write_study(tmp_path, study_tree()))
    alone = plan.configs["single-task-cvr"]
    assert alone.task_names == ("cvr",)
    assert alone.balancer.name == "static"
    changed = {"tasks"}
    assert alone.model_dump(exclude=changed) == plan.configs["equal"].model_dump(exclude=changed)


def test_without_single_task_models_there_are_none(tmp_path: Path) -> None:
    plan = make_plan(write_study(tmp_path, study_tree() | {"single_task": False}))
    assert list(plan.configs) == ["equal", "hand", "marigold"]
    assert plan.single_task_names == {}


def test_metrics_have_defaults_by_kind_and_a_direction(tmp_path: Path) -> None:
    tree = study_tree() | {"metrics": {"cvr": "log_loss", "watch_time": "xauc"}}
    plan = make_plan(write_study(tmp_path, tree))
    found = [(c.summary_key, c.higher_is_better) for c in plan.columns]
    assert found == [
        ("eval/auc/ctr", True),
        ("eval/log_loss/cvr", False),
        ("eval/xauc/watch_time", True),
    ]


def test_the_shipped_study_is_valid() -> None:
    plan = make_plan(ROOT / "configs/globo_study.yaml")
    assert [c.task for c in plan.columns] == ["ctr", "cvr", "watch_time", "return_24h"]
    assert plan.configs["marigold"].balancer == load_config(ROOT / "configs/globo.yaml").balancer


_BAD: list[tuple[dict[str, Any], str]] = [
    ({"seedz": [1]}, "{file}: seedz: unknown key; did you mean 'seeds'?"),
    ({"seeds": []}, "{file}: seeds: found []; tuple should have at least 1 item"),
    ({"seeds": [1, 2, 1]}, "{file}: seeds: [1, 2, 1] names a seed twice; remove one of them"),
    ({"seeds": ["1"]}, "{file}: seeds.0: found '1'; input should be a valid integer"),
    ({"ranks": 0}, "{file}: ranks: found 0; input should be greater than or equal to 1"),
    ({"reference": "eqal"}, "there is no balancer 'eqal'; did you mean 'equal'?"),
    ({"config": "nowhere.yaml"}, "nowhere.yaml: the config file can't be read"),
    ({"metrics": {"wach_time": "xauc"}}, "metrics: there is no task 'wach_time'; did you mean 'wa"),
    ({"metrics": {"ctr": "acu"}}, "metrics.ctr: 'acu' can't rank binary tasks; did you mean 'auc'"),
    (
        {"metrics": {"ctr": "calibration"}},
        "metrics.ctr: 'calibration' can't rank binary tasks; known here: auc, ne, log_loss",
    ),
    ({"front": ["ctr", "clicks"]}, "front: there is no task 'clicks'; known here: ctr, cvr, watch"),
    ({"front": ["ctr", "ctr"]}, "front: both tasks are 'ctr'; name two"),
    ({"overrides": ["run.seed=3"]}, "override 'run.seed=3': the study sets run.seed itself"),
    ({"overrides": ["run={name: x}"]}, "override 'run={name: x}': the study sets run.name itself"),
    ({"overrides": ["balancer.lr=3"]}, "'balancer.lr=3': the study sets balancer itself"),
    ({"overrides": ["data.batchsize=3"]}, "data.batchsize: unknown key; did you mean 'batch_size'"),
    ({"overrides": ["data.eval=null"]}, "data.eval is missing: a study compares held-out metrics"),
    (
        {"overrides": ["tasks=[{name: ctr, kind: binary, label: click}]"]},
        "a study of balancers needs two tasks or more",
    ),
]
_BAD_ENTRIES: list[tuple[str, Any, str]] = [
    ("x", {"balancer": {"name": "marygold"}}, "balancers.x: balancer.name: found 'marygold'; did"),
    ("x", {"balancer": {"name": "static", "lr": 1}}, "balancers.x: balancer.lr: unknown key"),
    (
        "x",
        {"balancer": {"name": "static"}, "automatc": True},
        "{file}: balancers.x.automatc: unknown key; did you mean 'automatic'?",
    ),
    ("x", {"overrides": []}, "{file}: balancers.x.balancer: missing; give it a value"),
    ("x", {"name": "static"}, "{file}: balancers.x.name: unknown key; known here: balancer, "),
    (
        "x",
        {"balancer": {"name": "static"}, "overrides": ["run.seed=1"]},
        "balancers.x: override 'run.seed=1': the study sets run.* itself",
    ),
    ("a/b", {"balancer": {"name": "static"}}, "balancers.a/b: a name must be letters, digits,"),
    (
        "single-task-ctr",
        {"balancer": {"name": "static"}},
        "balancers.single-task-ctr: names that begin with 'single-task-' are kept for the",
    ),
]


@pytest.mark.parametrize(("change", "message"), _BAD, ids=[message for _, message in _BAD])
def test_a_wrong_setting_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write_study(tmp_path, study_tree() | change)
    with pytest.raises(ConfigError) as refused:
        make_plan(file)
    assert message.replace("{file}", str(file)) in str(refused.value)


@pytest.mark.parametrize(("name", "entry", "message"), _BAD_ENTRIES)
def test_a_wrong_balancer_is_named(name: str, entry: Any, message: str, tmp_path: Path) -> None:
    tree = study_tree()
    tree["balancers"][name] = entry
    file = write_study(tmp_path, tree)
    with pytest.raises(ConfigError) as refused:
        make_plan(file)
    assert message.replace("{file}", str(file)) in str(refused.value)


def test_all_wrong_balancers_are_named_at_once(tmp_path: Path) -> None:
    tree: dict[str, Any] = study_tree() | {"metrics": {"crt": "auc"}}
    tree["balancers"]["x"] = {"balancer": {"name": "marygold"}}
    tree["balancers"]["y"] = {"balancer": {"name": "famoo"}}
    with pytest.raises(ConfigError) as refused:
        make_plan(write_study(tmp_path, tree))
    assert len(refused.value.problems) == 3


def test_what_is_no_study_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: the study file can't be read"):
        make_plan(tmp_path / "nothing.yaml")
    file = tmp_path / "list.yaml"
    file.write_text("- a\n")
    with pytest.raises(ConfigError, match=r"expected a mapping at the top, found a list"):
        make_plan(file)
    file.write_text("seeds: [1]\nseeds: [2]\n")
    with pytest.raises(ConfigError, match="line 2: the key 'seeds' stands twice"):
        make_plan(file)
