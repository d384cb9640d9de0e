"""Replays nights: warm start every night against cold retraining, on the same days.

    python benchmarks/nightly_replay.py --data ../shared/data/globo --out runs/nightly_replay

Night D learns the day before and is judged on D. `warm`: launch/nightly.py, each night from the
published model, export included. `cold_day`: from nothing, on the same day. `cold_all`:
from nothing, on all days so far. Each arm is a chain of its own beside the others, one rank each.
What is there is not done again. Writes benchmarks/results/nightly_replay.json, .md and .svg/.png.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).resolve().parent / "results"
_ONE_DAY = datetime.timedelta(days=1)
_ARMS = {
    "warm": "warm start each night (launch/nightly.py)",
    "cold_all": "cold, all days so far",
    "cold_day": "cold, the new day only",
}
# Each night's model is published: a first model of one day is no standard to hold the others to.
_NO_LIMITS = (
    "nightly.gate.defaults={binary: {auc: null, ne: null, calibration: null}, "
    "duration: {xauc: null}}",
    "nightly.gate.tasks={}",
    "nightly.gate.drift={max_psi: null, max_score_ratio: null, max_score_psi: null}",
)
_FIGURES = {"ctr": "auc", "cvr": "auc", "watch_time": "xauc", "return_24h": "auc"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=datetime.date.fromisoformat, default="2017-10-02")
    parser.add_argument("--last", type=datetime.date.fromisoformat, default="2017-10-13")
    parser.add_argument("--config", default=str(_ROOT / "configs/nightly.yaml"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-results", action="store_true", help="only print")
    arguments = parser.parse_args()
    nights = [
        arguments.first + n * _ONE_DAY for n in range((arguments.last - arguments.first).days + 1)
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        warm = pool.submit(_warm, arguments, nights)
        # The long ones first, so that no core waits for the last of them.
        cold = {
            (arm, night): pool.submit(_cold, arguments, arm, night, nights[0])
            for night in reversed(nights)
            for arm in ("cold_all", "cold_day")
        }
        found = {"warm": warm.result()}
        for arm in ("cold_all", "cold_day"):
            found[arm] = {str(night): cold[arm, night].result() for night in nights}
    result = {
        "command": "python benchmarks/nightly_replay.py --data ... --out ...",
        "cores": len(os.sched_getaffinity(0)),
        "nights": [str(night) for night in nights],
        "arms": found,
    }
    text = markdown(result)
    print(text)
    if not arguments.no_results:
        _RESULTS.mkdir(exist_ok=True)
        (_RESULTS / "nightly_replay.json").write_text(json.dumps(result, indent=1) + "\n")
        (_RESULTS / "nightly_replay.md").write_text(text)
        draw(result, _RESULTS / "nightly_replay")


def _warm(arguments: argparse.Namespace, nights: list[datetime.date]) -> dict[str, Any]:
    out = arguments.out.absolute()
    _run(
        [
            sys.executable, "launch/nightly.py", "--config", arguments.config,
            "--date", str(nights[0]), "--until", str(nights[-1]), f"data.path={arguments.data}",
            f"run.dir={out}", "run.name=warm", "nightly.ranks=1",
            "distributed.threads_per_rank=1", *_NO_LIMITS,
        ],
        out / "warm.log",
        allowed=(0, 6),
    )  # fmt: skip
    found: dict[str, Any] = {}
    for night in nights:
        folder = out / "warm" / "nights" / str(night)
        ending = _json(folder / "night.json")
        found[str(night)] = {"status": ending["status"], "sentence": ending["sentence"]}
        if (folder / "evaluation" / "report.json").exists():
            found[str(night)] |= _seconds(_json(folder / "train" / "summary.json"))
            found[str(night)] |= _of_report(folder / "evaluation") | {
                "night_s": sum(ending["seconds"].values())
            }
    return found


def _cold(
    arguments: argparse.Namespace, arm: str, night: datetime.date, first_night: datetime.date
) -> dict[str, Any]:
    """Evaluated by launch/evaluate.py as the nights are, so that the figures are the same ones."""
    out = arguments.out.absolute()
    last = night - _ONE_DAY
    first = last if arm == "cold_day" else first_night - _ONE_DAY
    name = f"{arm}-{night}"
    report = out / name / "evaluation"
    if not (report / "report.json").exists():
        common = [f"data.path={arguments.data}", "distributed.threads_per_rank=1"]
        _run(
            [
                sys.executable, "launch/train.py", "--config", arguments.config, *common,
                f"run.dir={out}", f"run.name={name}", f"data.train.dates=[{first}, {last}]",
            ],
            out / f"{name}.log",
        )  # fmt: skip
        _run(
            [
                sys.executable, "launch/evaluate.py", "--checkpoint", str(out / name), *common,
                "--out", str(report), f"data.eval.dates=[{night}, {night}]",
            ],
            out / f"{name}.log",
        )  # fmt: skip
    return _of_report(report) | _seconds(_json(out / name / "summary.json"))


def _run(command: list[str], log_file: Path, allowed: tuple[int, ...] = (0,)) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        # OMP: two chains of two threads on two cores take many times as long.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
        code = subprocess.run(
            command, cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
    if code not in allowed:
        raise SystemExit(f"{' '.join(command[:3])} ended with {code}: see {log_file}")


def _seconds(summary: dict[str, Any]) -> dict[str, float]:
    return {"train_s": summary["wall_s"], "steps": summary["step"]}


def _of_report(folder: Path) -> dict[str, Any]:
    tasks = {task["name"]: task for task in _json(folder / "report.json")["tasks"]}
    return {
        "figures": {
            task: tasks[task]["figures"][figure]["value"] for task, figure in _FIGURES.items()
        }
    }


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def means(result: dict[str, Any], arm: str) -> dict[str, float]:
    """Of the nights in which every arm has figures."""
    arms = result["arms"]
    nights = [n for n in result["nights"] if all("figures" in arms[a][n] for a in arms)]
    found = {
        task: statistics.fmean(arms[arm][n]["figures"][task] for n in nights) for task in _FIGURES
    }
    found["train_s"] = statistics.fmean(arms[arm][n]["train_s"] for n in nights)
    found["steps"] = statistics.fmean(arms[arm][n]["steps"] for n in nights)
    return found


def markdown(result: dict[str, Any]) -> str:
    nights = result["nights"]
    lines = [
        "# Nights replayed: warm start against cold retraining",
        "",
        f"`{result['command']}` ({result['cores']} cores, one rank per chain, two chains side by "
        f"side; nights {nights[0]} to {nights[-1]}, each learns the days until the day before and "
        "is judged on its own day)",
        "",
        "![AUC per night](nightly_replay.png)",
        "",
        "Means over the nights. Training: wall time of the training run, its start-up included.",
        "",
        "| | " + " | ".join(f"{t} {f}" for t, f in _FIGURES.items()) + " | steps | training, s |",
        "|---" * (len(_FIGURES) + 3) + "|",
    ]
    for arm, label in _ARMS.items():
        mean = means(result, arm)
        figures = " | ".join(f"{mean[task]:.4f}" for task in _FIGURES)
        lines.append(f"| {label} | {figures} | {mean['steps']:.0f} | {mean['train_s']:.1f} |")
    lines += ["", "CTR AUC per night:", "", "| night | " + " | ".join(_ARMS) + " | verdict |",
              "|---" * (len(_ARMS) + 2) + "|"]  # fmt: skip
    for night in nights:
        cells = [result["arms"][arm][night] for arm in _ARMS]
        shown = [f"{c['figures']['ctr']:.4f}" if "figures" in c else "-" for c in cells]
        lines.append(f"| {night} | " + " | ".join(shown) + f" | {cells[0]['sentence']} |")
    return "\n".join(lines) + "\n"


def draw(result: dict[str, Any], file: Path) -> None:
    """One panel per task: its figure per night and arm."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    styles = {"warm": ("C0", "-", "o"), "cold_all": ("C1", "--", "s"), "cold_day": ("C2", ":", "^")}
    for axis, (task, metric) in zip(axes.flat, _FIGURES.items(), strict=True):
        for arm, (colour, line, mark) in styles.items():
            of_arm = result["arms"][arm]
            points = [
                (night[5:], of_arm[night]["figures"][task])
                for night in result["nights"]
                if "figures" in of_arm[night]
            ]
            axis.plot(
                *zip(*points, strict=True), color=colour, linestyle=line, marker=mark,
                markersize=4, label=_ARMS[arm],
            )  # fmt: skip
        axis.set_title(f"{task}: {metric.upper()} on the night's own day", fontsize=10)
        axis.tick_params(axis="x", rotation=60, labelsize=8)
        axis.grid(alpha=0.3)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for suffix in (".png", ".svg"):
        figure.savefig(file.with_suffix(suffix), dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
