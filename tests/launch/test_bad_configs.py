"""Configs that must be refused: the exact message, once, and exit code 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from launch.train import main
from tests.support.launches import PATIENT, codes, launch_train
from tests.support.patience import watched
from tests.support.runs import default_setup

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
run: {name: test, seed: 3}
data:
  path: /logs/clicks
  train: {dates: [2024-01-01, 2024-01-05]}
  eval: {dates: [2024-01-06, 2024-01-06]}
features:
  - {name: user, kind: hash, rows: 100}
  - {name: item, kind: id, rows: 50, dim: 8, table: goods}
  - {name: seen, kind: id, table: goods, pooling: mean}
  - {name: country, kind: vocab, values: [br, pt]}
  - {name: age, kind: bucketize, boundaries: [18, 65]}
  - {name: price, kind: dense, clip: [0, 9]}
tasks:
  - {name: ctr, kind: binary, label: click}
  - {name: watch_time, kind: duration, label: watch_s, observed_if: click}
model: {trunk: {name: mmoe, experts: 4}}
balancer: {name: static}
"""
SECTIONS = (
    "run, data, features, tasks, model, balancer, optimizer, sharding, checkpoint, "
    "warm_start, life_cycle, numerics, logging, evaluation, nightly, distributed"
)


@dataclass(frozen=True)
class Bad:
    name: str
    message: str
    overrides: tuple[str, ...] = ()
    text: str | None = GOOD
    """None: there is no file."""


def set_to(override: str, message: str) -> Bad:
    return Bad(override, message, (override,))


def written(name: str, text: str | None, message: str) -> Bad:
    """`message` may hold {config} for the file's path."""
    return Bad(name, message, (), text)


BAD = [
    # What is no config at all.
    written("no file", None, "{config}: the config file can't be read (No such file or directory)"),
    written(
        "empty file",
        "# nothing\n",
        "{config}: expected a mapping at the top, found an empty file",
    ),
    written(
        "a list",
        "- run\n- data\n",
        "{config}: expected a mapping at the top, found a list",
    ),
    written(
        "broken YAML",
        GOOD + "sharding: [\n",
        "{config}, line 19: not valid YAML here: expected the node content, but found "
        "'<stream end>'",
    ),
    written(
        "a tab",
        "run:\n\tname: test\n",
        "{config}, line 2: not valid YAML here: found character '\\t' that cannot start any token",
    ),
    written(
        "duplicate section",
        GOOD + "model: {trunk: {name: ple}}\n",
        "{config}, line 18: the key 'model' stands twice (first on line 16); remove one of them",
    ),
    written(
        "duplicate key",
        GOOD.replace("dim: 8", "dim: 8, rows: 60"),
        "{config}, line 8: the key 'rows' stands twice (first on line 8); remove one of them",
    ),
    written(
        "Python tag",
        GOOD + "sharding: !!python/object/apply:os.system [touch hacked]\n",
        "{config}, line 18: not valid YAML here: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    # Unknown keys and names.
    set_to("features.user.rowz=3", "features.user.rowz: unknown key; did you mean 'rows'?"),
    set_to("optimiser.dense.lr=1e-3", "optimiser: unknown key; did you mean 'optimizer'?"),
    set_to("speed=3", f"speed: unknown key; known here: {SECTIONS}"),
    set_to("model.trunk.name=mmoo", "model.trunk.name: found 'mmoo'; did you mean 'mmoe'?"),
    set_to(
        "tasks.ctr.kind=regression",
        "tasks.ctr.kind: found 'regression'; known here: binary, duration",
    ),
    set_to(
        "model={trunk: {experts: 4}}",
        "model.trunk.name: missing; give it one of shared_bottom, mmoe, ple",
    ),
    set_to("tasks.0={name: ctr, kind: binary}", "tasks.ctr.label: missing; give it a value"),
    # Wrong types and values.
    set_to("features.user.rows='100'", "features.user.rows: found '100'; it must be an integer"),
    set_to("data.batch_size=0", "data.batch_size: found 0; it must be at least 1"),
    set_to("model.dropout=1", "model.dropout: found 1; it must be less than 1"),
    set_to("features.user.dim=6", "features.user.dim: found 6; it must be a multiple of 4"),
    set_to("optimizer.dense.lr=.nan", "optimizer.dense.lr: found nan; it must be a finite number"),
    set_to("run.device=gpu", "run.device: found 'gpu'; it must be 'auto', 'cpu' or 'cuda'"),
    set_to("run.name=20240101", "run.name: found 20240101; it must be text: put it into quotes"),
    set_to(
        "run.name=../../etc",
        "run.name: found '../../etc'; it must be letters, digits, '.', '_' and '-', and begin with "
        "a letter or digit",
    ),
    set_to("logging.tensorboard=no", "logging.tensorboard: found 'no'; it must be true or false"),
    set_to("tasks=ctr", "tasks: found 'ctr'; it must be a list"),
    set_to("model=mmoe", "model: found 'mmoe'; it must be a mapping of keys to values"),
    set_to(
        "data.train.dates=[2024-01-01]",
        "data.train.dates: found ['2024-01-01']; it must have 2 entries",
    ),
    set_to(
        "data.train.dates=[2024-02-30, 2024-03-01]",
        "data.train.dates.0: found '2024-02-30'; it must be a day, YYYY-MM-DD",
    ),
    set_to(
        "data.train.dates=[2024-01-05, 2024-01-01]",
        "data.train: dates run backwards: 2024-01-05 is after 2024-01-01; swap them",
    ),
    set_to(
        "features.country.values=[br, 7]",
        "features.country: values must be all text or all integers; put the numbers into quotes",
    ),
    set_to(
        "features.age.boundaries=[65, 18]",
        "features.age: boundaries must rise strictly: 65 is not below 18",
    ),
    set_to("features.price.clip=[9, 9]", "features.price: clip must rise: 9 is not below 9"),
    # What contradicts itself.
    set_to(
        "features.item.name=user",
        "features: the name 'user' is used 2 times; names must be unique",
    ),
    set_to("tasks=[]", "tasks: there is no task; add one"),
    set_to(
        "features.item.rows=null",
        "features: table 'goods': no feature gives its number of rows (item, seen); add rows: N "
        "to one",
    ),
    set_to(
        "features.seen.dim=16",
        "features: table 'goods': features item, seen give different values of dim: [16, 8]; give "
        "it once, or alike",
    ),
    set_to(
        "features.user.column=click",
        "features.user: its column 'click' is an outcome of task 'ctr'; the model would see the "
        "answer; remove the feature",
    ),
    set_to(
        "tasks.watch_time={name: ctr2, kind: binary, label: click}",
        "tasks.ctr2: has the same kind, label and observed_if as task 'ctr'; point one of them at "
        "its own label",
    ),
    set_to(
        "tasks.ctr.observed_if=click",
        "tasks.ctr.observed_if: is the label 'click' itself: only ones would be observed; name "
        "another column, or leave it out",
    ),
    set_to(
        "balancer.weights.crt=2", "balancer.weights.crt: there is no such task; did you mean 'ctr'?"
    ),
    set_to(
        "balancer.weights={ctr: 0, watch_time: 0}",
        "balancer.weights: every task weighs 0; give one a positive weight",
    ),
    set_to(
        "sharding.tables.item=row_wise",
        "sharding.tables.item: no feature has this table; known here: user, goods, country, age",
    ),
    set_to(
        "data.eval.dates=[2024-01-05, 2024-01-06]",
        "data.eval.dates: evaluation starts on 2024-01-05, but training runs to 2024-01-05; "
        "evaluation must start after the last training day",
    ),
    set_to(
        "data.eval.dates=null",
        "data.eval.dates: missing, and both splits have the same path: the evaluation rows would "
        "be trained on; give both splits their days, or data.eval.path another folder",
    ),
    # Overrides that are none.
    set_to("batch_size", "override 'batch_size': expected key.path=value"),
    set_to(
        "features.usr.rows=3",
        "override 'features.usr.rows=3': no entry 'usr'; did you mean 'user'?",
    ),
    set_to(
        "run.seed.start=3",
        "override 'run.seed.start=3': run.seed is a plain value (3); nothing lies below it",
    ),
    set_to(
        "data.path=[a",
        "override 'data.path=[a', line 1: not valid YAML here: expected ',' or ']', but got "
        "'<stream end>'",
    ),
    # All at once.
    Bad(
        "several problems",
        "5 problems:\n"
        "override 'tasks.cvr.label=x': no entry 'cvr'; did you mean 'ctr'?\n"
        "run.seeds: unknown key; did you mean 'seed'?\n"
        "features.user.rows: found -1; it must be at least 1\n"
        "features.price.kind: found 'dens'; did you mean 'dense'?\n"
        "optimizer.sparse.lr: found 0; it must be greater than 0",
        (
            "features.price.kind=dens",
            "tasks.cvr.label=x",
            "optimizer.sparse.lr=0",
            "run.seeds=1",
            "features.user.rows=-1",
        ),
    ),
]


def config_file(folder: Path, text: str | None) -> Path:
    file = folder / "config.yaml"
    if text is not None:
        file.write_text(text)
    return file


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_it_is_refused_with_code_2(
    tmp_path: Path,
    bad: Bad,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(tmp_path)
    file = config_file(tmp_path, bad.text)
    monkeypatch.setattr(sys, "argv", ["launch/train.py", "--config", str(file), *bad.overrides])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.err == f"ConfigError: {bad.message.replace('{config}', str(file))}\n"
    assert said.out == ""
    assert not [path for path in tmp_path.iterdir() if path != file]  # nothing was run or written


def test_the_config_is_good_before_it_is_spoiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Else the table above would prove little. What is printed is a config again."""
    file = config_file(tmp_path, GOOD)
    monkeypatch.setattr(sys, "argv", ["launch/train.py", "--config", str(file), "--print-config"])
    assert main() == 0
    printed = capsys.readouterr().out
    file.write_text(printed)
    assert main() == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --config"),
        (["--config", "x.yaml", "--dry_run"], "unrecognized arguments: --dry_run"),
    ],
)
def test_wrong_flags_are_refused_with_code_2(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(sys, "argv", ["launch/train.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


@dataclass(frozen=True)
class BadHere:
    """What only a started run can know to be wrong."""

    override: str
    message: str


BAD_HERE = [
    BadHere(
        "sharding.host_gib=1e-5",
        "sharding: no plan fits 3 tables (0.00 GiB of fp32 weights) onto 2 ranks: Unable to find a "
        "plan for this model because of insufficient storage; add ranks, raise sharding.hbm_gib / "
        "host_gib to what a rank really has, or shrink tables",
    ),
    BadHere(
        "features.user.table=keys",
        "features: tables ['keys']: TorchRec cannot hold a table of this name (it is an attribute "
        "of torch.nn.ModuleDict); give the feature another table name, e.g. table: keys_table",
    ),
    BadHere(
        "run.dir={folder}/config.yaml",
        "run.dir: can't write to the run's folder {folder}/config.yaml/test (Not a directory); "
        "choose another run.dir",
    ),
]
if not torch.cuda.is_available():
    BAD_HERE.append(
        BadHere(
            "run.device=cuda",
            "run.device: found 'cuda', but torch sees no CUDA device here; use run.device=cpu, or "
            "install the CUDA variant with ./launch/setup.sh cuda",
        )
    )


@pytest.mark.parametrize("bad", BAD_HERE, ids=lambda bad: bad.override)
def test_it_is_refused_on_both_ranks(tmp_path: Path, bad: BadHere):
    config = default_setup(tmp_path, 300)
    override = bad.override.replace("{folder}", str(tmp_path))
    ended = launch_train(config, PATIENT, override)
    _, _, message = ended[0].said.partition("ConfigError: ")
    assert message == bad.message.replace("{folder}", str(tmp_path)) + "\n"
    assert codes(ended) == [2, 2]
    assert "Error" not in ended[1].said


@pytest.mark.parametrize("name", ["model.trunk.name=mmoo", "duplicate section", "several problems"])
def test_torchrun_ends_at_once_and_with_our_message(tmp_path: Path, name: str):
    bad = next(bad for bad in BAD if bad.name == name)
    file = config_file(tmp_path, bad.text)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    process = subprocess.Popen(
        [*torchrun, "--nproc-per-node=2", "launch/train.py", f"--config={file}", *bad.overrides],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with watched(process, limit_s=25):  # seconds of it are torch's import in the agent
        _, stderr = process.communicate()
    assert process.returncode == 1  # torchrun's own; the rank's is in its report
    # By the rank, then in torchrun's own account of it, which ends with our message.
    ours, _, account = stderr.partition("FAILED")
    message = bad.message.replace("{config}", str(file))
    assert ours.count(message) == 1
    assert message.splitlines()[-1] in account  # later lines are indented there
    root_cause = stderr.partition("Root Cause")[2]
    assert re.search(r"exitcode +: 2 ", root_cause), root_cause


def test_another_rank_that_torchrun_stops_ends_with_its_own_code(tmp_path: Path) -> None:
    bad = next(bad for bad in BAD if bad.name == "model.trunk.name=mmoo")
    error_file = tmp_path / "error.json"
    process = subprocess.Popen(
        [
            sys.executable,
            "launch/train.py",
            f"--config={config_file(tmp_path, bad.text)}",
            bad.name,
        ],
        cwd=ROOT,
        env=os.environ
        | {
            "RANK": "1",
            "WORLD_SIZE": "2",
            "TORCHELASTIC_RUN_ID": "test",
            "TORCHELASTIC_ERROR_FILE": str(error_file),
        },
        stderr=subprocess.PIPE,
    )
    with watched(process, limit_s=25):
        while not error_file.exists():
            time.sleep(0.05)
        time.sleep(0.5)  # it waits for rank 0, which is not there
        process.terminate()
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (2, b"")
