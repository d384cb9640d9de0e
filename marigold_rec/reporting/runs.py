"""One run to compare: the folder of an evaluation (report.json) or of a training (summary.json)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marigold_rec.analysis.report import FORMAT, Figure, Report
from marigold_rec.config.flat import flat_settings
from marigold_rec.config.yaml_text import read_yaml
from marigold_rec.errors import ConfigError

_FILES = ("report.json", "summary.json")
_EXPECTED = (
    "expected an evaluation's folder (with report.json) or a training run's (with summary.json)"
)


@dataclass(frozen=True)
class Run:
    folder: Path
    name: str
    kind: str
    """evaluation or training."""
    facts: dict[str, str]
    """What the table of runs shows: status, step, seed, config hash, ..."""
    figures: dict[str, dict[str, Figure]]
    """Task -> metric -> figure."""
    rows: dict[str, int]
    """Task -> rows that it was evaluated on."""
    data: str | None = None
    """Fingerprint of the data of the evaluation; None where it is not known."""
    settings: dict[str, object] | None = None
    """config.effective.yaml by dotted path; None without one."""


def read_run(path: Path) -> Run:
    """Raises ConfigError when `path` is neither kind of folder, or its file is broken.

    A folder with both files counts as an evaluation: report.json knows more.
    """
    folder = path.parent if path.name in _FILES and path.is_file() else path
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise ConfigError(f"{path}: found {what}, {_EXPECTED}; check the path")
    if (file := folder / "report.json").is_file():
        return _evaluation(folder, _read_json(file))
    if (file := folder / "summary.json").is_file():
        return _training(folder, _read_json(file))
    raise ConfigError(
        f"{path}: found a folder with neither, {_EXPECTED}; give the folder that "
        "launch/evaluate.py --out or launch/train.py (run.dir/run.name) has written"
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{file}: expected JSON, found something else ({error}); evaluate or train again"
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: expected a JSON object, found {found!r:.40}; make it again")
    return found


def _evaluation(folder: Path, content: dict[str, Any]) -> Run:
    file = folder / "report.json"
    if content.get("format") != FORMAT:
        raise ConfigError(
            f"{file}: found format {content.get('format')!r:.40}, expected {FORMAT}; evaluate "
            "again with this version, or compare with the version that wrote it"
        )
    try:
        report = Report.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{file}: {where}: found {first['input']!r:.60}, {first['msg'].lower()}; evaluate again"
        ) from None
    model = report.model
    return Run(
        folder=folder,
        name=model.name,
        kind="evaluation",
        facts={
            "step": f"{model.step:,}",
            "seed": str(model.seed),
            "rows": f"{report.data.rows:,}",
            "config hash": model.config_hash,
            "data": report.data.fingerprint,
        },
        figures={task.name: task.figures for task in report.tasks},
        rows={task.name: task.rows for task in report.tasks},
        data=report.data.fingerprint,
        settings=_settings(folder),
    )


def _training(folder: Path, content: dict[str, Any]) -> Run:
    if "status" not in content:
        raise ConfigError(
            f"{folder / 'summary.json'}: found no `status`, {_EXPECTED} that launch/train.py has "
            "written; check the path"
        )
    figures: dict[str, dict[str, Figure]] = {}
    rows: dict[str, int] = {}
    reasons = content.get("eval_undefined")
    reasons = reasons if isinstance(reasons, Mapping) else {}
    for key, value in content.items():
        # eval/<metric>/<task>; a task's name may hold a slash of its own.
        head, _, rest = key.partition("/")
        metric, slash, task = rest.partition("/")
        if head != "eval" or not slash:
            continue
        number = _number(value)
        if metric == "rows":
            rows[task] = int(number or 0)
        else:
            reason = reasons.get(key)
            found = Figure(value=number, reason=None if reason is None else str(reason))
            figures.setdefault(task, {})[metric] = found
    return Run(
        folder=folder,
        name=_text(content.get("name")) or folder.name,
        kind="training",
        facts={
            "status": _text(content.get("status")),
            "step": _count(content.get("step")),
            "seed": _text(content.get("seed")),
            "rows/s": _count(content.get("perf/samples_per_sec")),
            "config hash": _text(content.get("config_hash")),
        },
        figures=figures,
        rows=rows,
        settings=_settings(folder),
    )


def _settings(folder: Path) -> dict[str, object] | None:
    file = folder / "config.effective.yaml"
    if not file.is_file():
        return None
    return flat_settings(read_yaml(file, "run's config"))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _count(value: object) -> str:
    number = _number(value)
    return "" if number is None else f"{number:,.0f}"


def _text(value: object) -> str:
    return "" if value is None else str(value)
