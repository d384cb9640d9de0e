"""The table and the chart of balancer_cost.py, from its JSON."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from marigold_rec.reporting.markdown import markdown_table

_LIMIT = 1.10
_STYLES: dict[str, dict[str, Any]] = {
    "again": {"color": "#999999", "linestyle": ":", "marker": "."},
    "marigold": {"color": "#d55e00", "linewidth": 2.5, "marker": "o"},
    "rows": {"color": "#e69f00", "marker": "s"},
    "every_step": {"color": "#cc79a7", "marker": "^"},
    "famo": {"color": "#009e73", "marker": "D"},
    "mgda": {"color": "#0072b2", "marker": "v"},
    "task_gradients": {"color": "#000000", "marker": "x"},
}


def write_report(result: dict[str, Any], folder: Path) -> None:
    """balancer_cost.md, and .svg and .png if times were measured."""
    lines = ["# What a balancer costs", ""]
    if "time" in result:
        _draw(result, folder)
        lines += _time_lines(result)
    if "memory" in result:
        lines += _memory_lines(result)
    (folder / "balancer_cost.md").write_text("\n".join(lines))


def _time_lines(result: dict[str, Any]) -> list[str]:
    time, titles = result["time"], result["titles"]
    by_tasks = _in_order(time["by_tasks"])
    columns = [name for name in titles if any(name in f["ratios"] for f in by_tasks.values())]
    columns.remove("static")
    heading = ["tasks", "rounds", "static, ms", *(titles[name] for name in columns)]
    rows = [
        [
            tasks,
            str(found["rounds"]),
            f"{found['step_ms']['static']:.1f}",
            *(_ratio(found["ratios"].get(name)) for name in columns),
        ]
        for tasks, found in by_tasks.items()
    ]
    shares = [
        [tasks, *(f"{found['probe_share'][n]:.1%}" for n in ("marigold", "every_step", "rows"))]
        for tasks, found in by_tasks.items()
        if {"marigold", "every_step", "rows"} <= found["probe_share"].keys()
    ]
    return [
        "## Step time, relative to static",
        "",
        f"`{time['command']}` ({time['machine']}, {time['date']})",
        "",
        f"2 ranks x {time['batch_size']:,} rows, configs/globo.yaml's model; 4 tasks are its own, "
        "others binary with random labels. All variants in one process group, in turns, blocks of "
        "20 steps (10 where all steps are alike). Median of the rounds' ratios to the same round's "
        "static [least..most].",
        "",
        markdown_table(heading, rows),
        "",
        *(
            [
                "Of that, seconds inside the probe over seconds of the steps:",
                "",
                markdown_table(
                    ["tasks", *(titles[n] for n in ("marigold", "every_step", "rows"))], shares
                ),
                "",
            ]
            if shares
            else []
        ),
        "The cost model makes one gradient per task of the dense parameters that tasks share, by "
        "one backward each, and their all-reduced Gram matrix, but no weights: it is the least "
        "that a method on exact parameter gradients costs.",
        "",
        "![relative step time by number of tasks](balancer_cost.svg)",
        "",
    ]


def _memory_lines(result: dict[str, Any]) -> list[str]:
    memory, titles = result["memory"], result["titles"]
    rows: list[list[str]] = []
    for tasks, found in _in_order(memory["by_tasks"]).items():
        static = found["static"]
        for name, figures in found.items():
            rows.append(
                [
                    tasks,
                    titles[name],
                    f"{figures['peak_mib']:,.0f}",
                    f"{figures['peak_mib'] / static['peak_mib']:.3f}",
                    f"{figures['peak_mib'] - figures['built_mib']:,.0f}",
                    f"{figures['in_use_mib']:,.1f}",
                    f"{figures['in_use_mib'] / static['in_use_mib']:.3f}",
                ]
            )
    heading = [
        "tasks", "balancer", "peak of the process, MiB", "to static", "of it, in the steps, MiB",
        "in use in steps, peak, MiB", "to static",
    ]  # fmt: skip
    return [
        "## Peak memory, relative to static",
        "",
        f"`{memory['command']}` ({memory['machine']}, {memory['date']})",
        "",
        f"2 ranks x {memory['batch_size']:,} rows, the greater rank; a process per balancer, with "
        "the C library's default settings. The process: its peak resident memory in 21 steps, and "
        "how much of that is above what it held when all was built; it includes freed memory that "
        "the C library keeps. In use: what the steps have allocated at most beyond what is "
        "allocated between them, by the C library's own count, looked at every millisecond.",
        "",
        markdown_table(heading, rows),
        "",
    ]


def _draw(result: dict[str, Any], folder: Path) -> None:
    by_tasks = _in_order(result["time"]["by_tasks"])
    with mpl.rc_context({"svg.hashsalt": "balancer_cost", "font.size": 9}):
        figure, (whole, near) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
        for axes in (whole, near):
            _draw_lines(axes, by_tasks, result["titles"])
        whole.set_title("all")
        whole.set_yscale("log", base=2)
        whole.yaxis.set_major_formatter(ScalarFormatter())
        near.set_title("near 1")
        near.set_ylim(0.95, 1.35)
        near.text(2, _LIMIT, f"{_LIMIT:.2f}", va="bottom", color="#666666")
        figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.savefig(folder / "balancer_cost.svg", metadata={"Date": None})
        figure.savefig(folder / "balancer_cost.png", dpi=150)
        plt.close(figure)


def _draw_lines(axes: Axes, by_tasks: dict[str, Any], titles: dict[str, str]) -> None:
    axes.axhline(1.0, color="#cccccc", linewidth=1)
    axes.axhline(_LIMIT, color="#666666", linestyle="--", linewidth=1)
    for name, style in _STYLES.items():
        found = {int(t): f["ratios"][name] for t, f in by_tasks.items() if name in f["ratios"]}
        if found:
            medians = [statistics.median(ratios) for ratios in found.values()]
            axes.plot(list(found), medians, label=titles[name], markersize=5, **style)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([int(t) for t in by_tasks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("tasks m")
    axes.set_ylabel("step time relative to static")


def _in_order(by_tasks: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(by_tasks.items(), key=lambda item: int(item[0])))


def _ratio(ratios: list[float] | None) -> str:
    if ratios is None:
        return "-"
    return f"{statistics.median(ratios):.3f} [{min(ratios):.2f}..{max(ratios):.2f}]"
