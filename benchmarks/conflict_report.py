"""The tables and the chart of conflict.py, from its JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from jobs.studies.drawing import COLOURS, GREY, INK, TEXT_SIZE, new_figure, save, style_axes
from jobs.studies.table import Spread, paired_difference, spread
from marigold_rec.reporting.markdown import markdown_table

SINGLE = "single-task-"
_TASKS = ("ctr", "cvr", "watch_time")
_LOOKS = {
    "equal": (COLOURS[6], "-", "o"),
    "marigold": (COLOURS[1], "-", "s"),
    "marigold-every-step": (COLOURS[4], "-", "s"),
    "uncertainty": (COLOURS[3], ":", "^"),
    "famo": (COLOURS[0], "--", "D"),
    "upgrad": (COLOURS[2], "-.", "v"),
}

_LOST = 0.3

Shares = Mapping[tuple[str, float, str, str], Mapping[int, float]]
"""(regime, dial, entry, task) -> seed -> share of what can be learned."""


def write_report(result: dict[str, Any], folder: Path) -> None:
    """conflict.md, conflict.svg and conflict.png."""
    shares = _by_seed(result["cells"])
    picture = _draw(result, shares, folder)
    lines = [
        "# Tasks that compete, on a log of known truth",
        "",
        f"`{result['command']}` ({result['machine']}, {result['seconds']} s, "
        f"commit {result['commit']}, {result['date']})",
        "",
        "The embedded synthetic log (6 days of 20,000 rows: 5 train in one pass, the last judges; "
        "seeds " + ", ".join(map(str, result["seeds"])) + ", each with a log of its own). "
        "A figure is the share of what can be learned: (AUC - 0.5) / (that of the true "
        "probabilities - 0.5) for ctr and cvr, R2 / (that of the true means) for watch_time, on "
        "the same labels. 1 is the Bayes-optimal score; `single-task` is one model per task, of "
        "the same shape. The dial sets the correlation of the factors of click and conversion: "
        "0.5 at dial 0, none at 1/3, -1 at 1.",
        "",
        f"![shares]({picture})",
        "",
        "Error bars are standard errors over seeds; a panel in which a task is lost has "
        "an axis of its own. What follows from it: "
        "[conflict_findings.md](conflict_findings.md).",
        "",
        "## Against each task's own model",
        "",
        "Difference of the share from the single-task model's, seed by seed, mean over dials and "
        "seeds ± its standard error; in bold: a loss of more than 0.03 and two standard errors.",
        "",
        markdown_table(["regime", "balancer", *_TASKS, "worst"], _differences(result, shares)),
        "",
    ]
    for name, regime in result["regimes"].items():
        lines += [
            f"## {name}: {regime['title']}",
            "",
            regime["what"],
            "",
            markdown_table(*_shares_table(result, shares, name)),
            "",
        ]
    lines += [_foot(result)]
    (folder / "conflict.md").write_text("\n".join(lines) + "\n")


def _by_seed(cells: Iterable[dict[str, Any]]) -> Shares:
    shares: dict[tuple[str, float, str, str], dict[int, float]] = {}
    for cell in cells:
        for task, share in cell["shares"].items():
            entry = "single-task" if cell["entry"].startswith(SINGLE) else cell["entry"]
            key = (cell["regime"], cell["dial"], entry, task)
            shares.setdefault(key, {})[cell["seed"]] = share
    return shares


def _differences(result: dict[str, Any], shares: Shares) -> list[list[str]]:
    rows = []
    for name, regime in result["regimes"].items():
        for entry in result["balancers"]:
            found = [_from_single(shares, name, regime["dials"], entry, task) for task in _TASKS]
            worst = min(found, key=lambda difference: difference.mean)
            rows.append([name, entry, *map(_difference, found), f"{worst.mean:+.3f}"])
    return rows


def _from_single(shares: Shares, name: str, dials: list[float], entry: str, task: str) -> Spread:
    """Mean over dials, by seed: the dials of a seed share its population's draws."""
    per_dial = [
        {
            seed: share - shares[name, dial, "single-task", task][seed]
            for seed, share in shares[name, dial, entry, task].items()
        }
        for dial in dials
    ]
    seeds = per_dial[0]
    found = spread(sum(d[seed] for d in per_dial) / len(per_dial) for seed in seeds)
    assert found is not None
    return found


def _difference(of: Spread) -> str:
    error = of.error or 0.0
    text = f"{of.mean:+.3f} ± {error:.3f}"
    return f"**{text}**" if of.mean < -max(0.03, 2 * error) else text


def _shares_table(
    result: dict[str, Any], shares: Shares, name: str
) -> tuple[list[str], list[list[str]]]:
    dials = result["regimes"][name]["dials"]
    heading = ["", *(f"{task}, dial {_dial(dial)}" for dial in dials for task in _TASKS)]
    rows = []
    for entry in ("single-task", *result["balancers"]):
        found = [spread(shares[name, d, entry, t].values()) for d in dials for t in _TASKS]
        rows.append([entry, *(_share(of) for of in found)])
    for entry in result["balancers"]:
        if entry == "equal":
            continue
        pairs = [
            paired_difference(shares[name, d, entry, t], shares[name, d, "equal", t])
            for d in dials
            for t in _TASKS
        ]
        rows.append([f"{entry} - equal", *(f"{of.mean:+.3f}" if of else "" for of in pairs)])
    return heading, rows


def _share(of: Spread | None) -> str:
    if of is None:
        return ""
    return f"{of.mean:.3f}" if of.sd is None else f"{of.mean:.3f} ± {of.sd:.3f}"


def _dial(dial: float) -> str:
    return "1/3" if abs(dial - 1 / 3) < 1e-9 else f"{dial:g}"


def _foot(result: dict[str, Any]) -> str:
    gaps = [
        abs(result["closed_form"][key][task] - best[task])
        for key, best in result["best"].items()
        for task in ("ctr", "cvr")
    ]
    return (
        "± is the standard deviation over seeds. The true probabilities' AUC on the last day's "
        "labels is within "
        f"{max(gaps):.3f} of its closed-form expectation at every dial and seed."
    )


def _draw(result: dict[str, Any], shares: Shares, folder: Path) -> str:
    regimes = result["regimes"]
    figure = new_figure(height_in=8.0)
    grid = figure.subplots(len(_TASKS), len(regimes), squeeze=False)
    for column, (name, regime) in enumerate(regimes.items()):
        for row, task in enumerate(_TASKS):
            _panel(grid[row][column], shares, name, regime["dials"], task, result["balancers"])
        grid[0][column].set_title(name, size=TEXT_SIZE, color=INK)
    for row, task in enumerate(_TASKS):
        _same_limits(list(grid[row]))
        grid[row][0].set_ylabel(f"{task}, share of the learnable", size=TEXT_SIZE, color=INK)
    figure.supxlabel(
        "conflict dial (correlation of the factors of click and conversion: 0.5, 0, -1)",
        size=TEXT_SIZE,
        color=INK,
    )
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=TEXT_SIZE
    )
    return save(figure, folder, "conflict")


def _panel(
    axes: Axes,
    shares: Shares,
    name: str,
    dials: list[float],
    task: str,
    balancers: Iterable[str],
) -> None:
    """Share over dial; the balancers stand side by side, so that no error bar hides another."""
    style_axes(axes)
    step = 0.02 if len(dials) > 1 else 0.04
    single = _means_and_errors(shares, name, dials, "single-task", task)
    if len(dials) > 1:
        axes.plot(dials, single[0], color=GREY, lw=4, alpha=0.4, label="single-task")
    else:
        axes.axhline(single[0][0], color=GREY, lw=4, alpha=0.4, label="single-task")
    entries = list(balancers)
    for i, entry in enumerate(entries):
        means, errors = _means_and_errors(shares, name, dials, entry, task)
        colour, line, marker = _LOOKS[entry]
        at = [dial + step * (i - (len(entries) - 1) / 2) for dial in dials]
        axes.errorbar(
            at, means, errors, color=colour, ls=line, marker=marker, ms=4, lw=1.2, label=entry
        )
    axes.set_xticks(dials, [_dial(dial) for dial in dials])
    axes.set_xlim(min(dials) - 0.15, max(dials) + 0.15)


def _means_and_errors(
    shares: Shares, name: str, dials: list[float], entry: str, task: str
) -> tuple[list[float], list[float]]:
    found = [spread(shares[name, dial, entry, task].values()) for dial in dials]
    return (
        [of.mean if of else math.nan for of in found],
        [(of.error or 0.0) if of else 0.0 for of in found],
    )


def _same_limits(row: list[Axes]) -> None:
    """But for panels in which a task is lost altogether: these would flatten all others."""
    alike = [axes for axes in row if axes.get_ylim()[0] > _LOST]
    if alike:
        low = min(axes.get_ylim()[0] for axes in alike)
        high = max(axes.get_ylim()[1] for axes in alike)
        for axes in alike:
            axes.set_ylim(low, high)
