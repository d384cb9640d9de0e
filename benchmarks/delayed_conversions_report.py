"""What benchmarks/delayed_conversions.py has found, as Markdown."""

from __future__ import annotations

import math
import statistics
from typing import Any

_LATE = 10  # nights of which the last figures are means


def report(result: dict[str, Any]) -> str:
    """Markdown; `result` as it stands in the JSON file."""
    nights: list[dict[str, Any]] = result["nights"]
    delay_h: float = result["delay_h"]
    days = sorted({night["day"] for night in nights})
    arms = list(dict.fromkeys(night["arm"] for night in nights))
    seeds = sorted({night["seed"] for night in nights})
    lines = [
        "# Nightly training with delayed conversions",
        "",
        f"`{result['command']}` on {result['machine']}, {result['date']} (commit "
        f"{result['commit']}), {result['seconds']:,} s with other work beside it.",
        "",
        f"Synthetic log, {result['rows_per_day']:,} rows a day, conversions {delay_h:g} h after "
        f"the click on average, {len(days)} nights, seeds {', '.join(map(str, seeds))} (of log and "
        "model). "
        "Each night begins with the model of the night before and sees the log as known at its "
        "midnight (`hindsight`: as it will be in the end). Calibration: predicted over true "
        "conversion rate on the clicks of the day after the last night, which is what the model "
        "serves; 1 is right.",
        "",
        f"| arm | last night | by seed | its labels | last {_LATE} nights | mean distance from 1 | "
        "their labels | CVR AUC | CTR AUC | rows of a night |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        own = [n for n in nights if n["arm"] == arm]
        last = [n for n in own if n["day"] == days[-1]]
        late = [n for n in own if n["day"] in days[-_LATE:]]
        values = [n["calibration"] for n in late]
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        distance = statistics.mean(abs(value - 1) for value in values)
        lines.append(
            f"| {arm} | {_mean(last, 'calibration')} | "
            f"{', '.join(format(n['calibration'], '.3f') for n in last)} | "
            f"{_mean(last, 'of_labels')} | {_mean(late, 'calibration')} +- {error:.3f} | "
            f"{distance:.3f} | "
            f"{_mean(late, 'of_labels')} | {_mean(last, 'cvr_auc', 4)} | "
            f"{_mean(last, 'ctr_auc', 4)} | {last[0]['rows']:,} |"
        )
    lines += [
        "",
        "Labels: the mean label that the night has learned, over the same true rate: what a model "
        "without an error of its own would show. +-: standard error over seeds and nights. "
        + "; ".join(
            f"{1 - math.exp(-hours / delay_h):.1%} of the conversions come within {hours:g} h"
            for hours in result["matures_h"]
        )
        + ". The rate of the log drifts by some percent in three days. `recalibrated`: as "
        "launch/nightly.py does it with its defaults.",
        "",
        "Calibration after each night, mean of the seeds (in the log's first nights no conversion "
        "is mature, and the model knows nothing of them):",
        "",
        f"| arm | {' | '.join(day[5:] for day in days)} |",
        "|---" * (len(days) + 1) + "|",
    ]
    for arm in arms:
        own = [[n for n in nights if n["arm"] == arm and n["day"] == day] for day in days]
        lines.append(f"| {arm} | {' | '.join(_mean(night, 'calibration') for night in own)} |")
    return "\n".join(lines) + "\n"


def _mean(nights: list[dict[str, Any]], key: str, digits: int = 3) -> str:
    values = [night[key] for night in nights if night[key] is not None]
    return format(statistics.mean(values), f".{digits}f") if values else "-"
