"""Writes study.md and study.json: the tables, and how they were made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.studies.plan import Plan
from jobs.studies.study_results import StudyResults, distinct
from jobs.studies.table import Row, Spread
from marigold_rec.config.schema import Config
from marigold_rec.config.yaml_text import dump_yaml
from marigold_rec.reporting.markdown import markdown_table


def write_report(study: StudyResults, out: Path, pictures: Sequence[str]) -> None:
    """Writes both files. `pictures`: names of PNG files in `out`, shown in this order."""
    (out / "study.md").write_text(_markdown(study, pictures), encoding="utf-8")
    text = json.dumps(_json(study), indent=1, allow_nan=False)
    (out / "study.json").write_text(text + "\n", encoding="utf-8")


def _markdown(study: StudyResults, pictures: Sequence[str]) -> str:
    plan = study.plan
    parts = [
        "# Study",
        _how(study),
        *_warnings(study),
        _main_table(study),
        _foot(study),
        f"## Differences from {plan.file.reference}",
        _difference_table(study),
        "Mean paired difference over seeds ± its standard error.",
        "## Final weights",
        _weight_table(study),
        "Each task's share of the sum of weights at the last step, mean over seeds: Adam and "
        "Adagrad are invariant to a common factor.",
        *(f"![{name}]({name})" for name in pictures),
        "## Settings",
        _settings(plan),
    ]
    return "\n\n".join(parts) + "\n"


def _how(study: StudyResults) -> str:
    file = study.plan.file
    reference_runs = [r for r in study.results if r.name == file.reference]
    lines = [f"- command: `{command}`" for command in distinct(study, "command")]
    for what, key in (("machine", "machine"), ("code", "commit"), ("runs at a time", "jobs")):
        if found := distinct(study, key):
            lines.append(f"- {what}: {', '.join(found)}")
    if days := sorted({value[:10] for value in distinct(study, "started")}):
        lines.append(f"- run on {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else ""))
    if reference_runs:
        summary = reference_runs[0].summary
        config = study.plan.configs[file.reference]
        rows = {
            column.task: summary.get(f"eval/rows/{column.task}") for column in study.plan.columns
        }
        held_out = ", ".join(f"{task} {int(n):,}" for task, n in rows.items() if n is not None)
        steps = summary.get("total_steps", 0)
        most = steps * config.data.batch_size * summary.get("world_size", 1)
        lines += [
            f"- training: {steps:,} steps of {summary.get('world_size', 1)} ranks x "
            f"{config.data.batch_size:,} rows (at most {most:,} rows)",
            f"- held-out rows: {held_out}",
            "- versions: " + ", ".join(f"{k} {v}" for k, v in summary.get("versions", {}).items()),
        ]
    seeds = ", ".join(str(seed) for seed in file.seeds)
    return "\n".join([*lines, f"- seeds: {seeds}"])


def _warnings(study: StudyResults) -> list[str]:
    found = []
    if study.missing:
        shown = ", ".join(f"{name} seed {seed}" for name, seed in study.missing[:12])
        more = f" and {len(study.missing) - 12} more" if len(study.missing) > 12 else ""
        found.append(
            f"**Not complete**: {len(study.missing)} of {len(list(study.plan.trials()))} runs "
            f"have no result ({shown}{more}); rows over fewer seeds say so."
        )
    if len(commits := distinct(study, "commit")) > 1:
        found.append(f"**Mixed code**: the runs come from {len(commits)} commits.")
    return found


def _main_table(study: StudyResults) -> str:
    plan, num_seeds = study.plan, len(study.plan.file.seeds)
    metrics = [f"{c.task} {c.metric}" for c in plan.columns]
    heading = ["balancer", *metrics, "Delta-m %", "mean rank", "step time"]
    lines: list[list[str]] = []
    for row in study.rows:
        count = max((s.count for s in row.metrics.values()), default=0)
        lines.append(
            [
                _name(row) + (f" ({count} seeds)" if count < num_seeds else ""),
                *(_plus_minus(row.metrics.get(c.task)) for c in plan.columns),
                _plus_minus(row.delta_m, "+.2f", ".2f"),
                "-" if row.mean_rank is None else f"{row.mean_rank:.2f}",
                _plus_minus(row.step_time, ".2f"),
            ]
        )
    if study.single_task:
        metrics = [_plus_minus(study.single_task.get(c.task)) for c in plan.columns]
        time = _plus_minus(study.single_task_time, ".2f")
        lines.append(["*one model per task*", *metrics, "0", "-", time])
    return markdown_table(heading, lines)


def _foot(study: StudyResults) -> str:
    automatic = sum(row.is_automatic for row in study.rows)
    lower = [c.task for c in study.plan.columns if not c.higher_is_better]
    turned = f", sign turned for {', '.join(lower)} (lower is better)" if lower else ""
    return (
        "Mean ± sample standard deviation over seeds. Delta-m = mean over tasks of "
        f"100 (M - S) / |S|, S the mean of the task's own model{turned}. Mean rank: over tasks, of "
        f"the {automatic} automatic balancers' means (1 is best, ties share); rows in *italics* "
        "are tuned by hand and have no rank. Step time: the run's median, relative to "
        f"{study.plan.file.reference} with the same seed. Other runs shared the machine, so step "
        "times are rough; `benchmarks/` measures them properly."
    )


def _difference_table(study: StudyResults) -> str:
    columns = study.plan.columns
    lines: list[list[str]] = []
    for row in study.rows:
        if row.name != study.plan.file.reference:
            found = [row.differences.get(c.task) for c in columns]
            lines.append([_name(row), *(_difference(d) for d in found)])
    return markdown_table(["balancer", *(f"{c.task} {c.metric}" for c in columns)], lines)


def _weight_table(study: StudyResults) -> str:
    tasks = [c.task for c in study.plan.columns]
    lines: list[list[str]] = []
    for row in study.rows:
        found = study.final_weights[row.name]
        lines.append([_name(row), *(f"{found[t]:.3f}" if t in found else "-" for t in tasks)])
    return markdown_table(["balancer", *tasks], lines)


def _settings(plan: Plan) -> str:
    blocks = [
        {
            name: {
                "balancer": plan.configs[name].balancer.model_dump(mode="json"),
                **({"overrides": list(entry.overrides)} if entry.overrides else {}),
            }
        }
        for name, entry in plan.file.balancers.items()
    ]
    common = _common(plan.configs[plan.file.reference])
    balancers = "".join(dump_yaml(block) for block in blocks)
    return (
        f"Balancers, with every default:\n\n```yaml\n{balancers}```\n\n"
        "All runs (but for an entry's overrides); the single-task models have their one task and "
        f"a static balancer:\n\n```yaml\n{dump_yaml(common)}```"
    )


def _common(config: Config) -> dict[str, Any]:
    tree = config.model_dump(mode="json")
    return {key: value for key, value in tree.items() if key not in ("balancer", "logging")}


def _name(row: Row) -> str:
    return row.name if row.is_automatic else f"*{row.name}*"


def _plus_minus(found: Spread | None, mean: str = ".4f", sd: str = "") -> str:
    if found is None:
        return "-"
    text = format(found.mean, mean)
    return text if found.sd is None else f"{text} ± {format(found.sd, sd or mean)}"


def _difference(found: Spread | None) -> str:
    if found is None:
        return "-"
    return f"{found.mean:+.4f}" + ("" if found.error is None else f" ± {found.error:.4f}")


def _json(study: StudyResults) -> dict[str, Any]:
    plan = study.plan
    return {
        "study": plan.file.model_dump(mode="json"),
        "columns": [asdict(column) for column in plan.columns],
        "rows": [
            asdict(row) | {"final_weight_shares": study.final_weights[row.name]}
            for row in study.rows
        ],
        "single_task": {task: asdict(found) for task, found in study.single_task.items()},
        "missing": [{"name": name, "seed": seed} for name, seed in study.missing],
        "trials": [
            {
                "name": r.name,
                "seed": r.seed,
                "metrics": r.metrics,
                "step_time_s": r.step_time_s,
                "final_weights": r.final_weights,
                "record": r.record,
                "summary": r.summary,
            }
            for r in study.results
        ],
        "configs": {name: config.model_dump(mode="json") for name, config in plan.configs.items()},
    }
