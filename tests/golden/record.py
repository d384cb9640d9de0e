"""Records full-digit losses, task weights and final metrics of short runs, for refactorings.

    python tests/golden/record.py OUT_FOLDER        # one JSON file per run

Two folders that were recorded on one machine, before and after a change that must not touch the
numerics, are equal byte by byte. tests/launch/test_golden_losses.py holds runs against the recorded
files of this folder within a tolerance, since another processor rounds otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_GLOBO = [
    "data.path=../shared/data/globo",
    "data.train.dates=[2017-10-01,2017-10-01]",
    "data.eval.dates=[2017-10-11,2017-10-11]",
    "data.batch_size=512",
]
_PLE = [
    "model.trunk={name: ple, levels: 2, shared_experts: 2, task_experts: 1, "
    "expert_layers: [32, 16]}",
]
RUNS: dict[str, tuple[str, list[str]]] = {
    "ctr_cvr": ("configs/ctr_cvr.yaml", []),
    "globo_mmoe": ("configs/globo.yaml", _GLOBO),
    "globo_ple": ("configs/globo.yaml", [*_GLOBO, *_PLE]),
}
"""Name -> config and overrides; each is run on 1 and on 2 ranks."""
_STEPS = 24
_TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
_KEPT = ("train/loss/", "train/weight/", "eval/")


def command(name: str, ranks: int, folder: Path) -> list[str]:
    """The arguments of torchrun for one run."""
    config, overrides = RUNS[name]
    return [
        "--standalone",
        f"--nproc-per-node={ranks}",
        "launch/train.py",
        "--config",
        config,
        *overrides,
        f"run.steps={_STEPS}",
        "logging.every_n_steps=1",
        "logging.tensorboard=false",
        f"run.dir={folder}",
        "run.name=golden",
    ]


def kept(folder: Path) -> list[dict[str, Any]]:
    """The recorded scalars of a run's metrics.jsonl, a dict per line."""
    lines = (folder / "golden" / "metrics.jsonl").read_text().splitlines()
    found = []
    for line in map(json.loads, lines):
        values = {key: line[key] for key in sorted(line) if key.startswith(_KEPT)}
        if values:
            found.append({"step": line["step"], **values})
    return found


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    for name in RUNS:
        for ranks in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(
                    [*_TORCHRUN, *command(name, ranks, Path(folder))],
                    cwd=ROOT,
                    env=environ,
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                text = json.dumps(kept(Path(folder)), indent=0)
            (out / f"{name}_{ranks}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
