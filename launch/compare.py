"""Compares runs: python launch/compare.py RUN RUN ... [--all] [--out FOLDER].

A RUN is the folder of an evaluation (report.json) or of a training run (summary.json); the others
are compared with the first. With --out it writes compare.md and compare.html too. Exit codes: 0
done, 1 other, 2 a RUN that is neither.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.entrypoint.exit_codes import exit_with
from marigold_rec.atomic_io import write_together
from marigold_rec.errors import EXIT_DONE, ConfigError
from marigold_rec.metrics import metric_of
from marigold_rec.reporting.comparison import (
    Cell,
    Comparison,
    compare,
    comparison_html,
    comparison_markdown,
)
from marigold_rec.reporting.runs import read_run
from marigold_rec.reporting.wording import NOTHING, number, shown, signed

_LONGEST_LABEL = 48


def main() -> int:
    arguments = _parse_arguments()
    try:
        runs = [read_run(Path(run)) for run in arguments.runs]
        if arguments.out is not None:
            _write(compare(runs), Path(arguments.out))
    except ConfigError as error:
        exit_with(error)
    for line in comparison_lines(compare(runs, all_metrics=arguments.all)):
        _print(line)
    return EXIT_DONE


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder with report.json or summary.json"
    )
    parser.add_argument("--all", action="store_true", help="print all metrics, not the main ones")
    parser.add_argument("--out", metavar="FOLDER", help="for compare.md and compare.html")
    return parser.parse_args()


def _write(found: Comparison, out: Path) -> None:
    texts = {"compare.md": comparison_markdown(found), "compare.html": comparison_html(found)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_together(out, texts)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: can't write there ({error}); choose another folder"
        ) from error


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Yields aligned columns for a terminal; `^` marks the best of a column."""
    labels = [_short(label) for label in found.labels]
    facts = [["runs", *found.facts]]
    for label, run in zip(labels, found.runs, strict=True):
        facts.append(
            [label, *(shown(run.facts[f]) if run.facts.get(f) else "-" for f in found.facts)]
        )
    yield from _aligned(facts)
    for task in found.tasks:
        yield ""
        table = [[_short(task.task), *(shown(metric_of(m).label) for m in task.metrics)]]
        for label, cells in zip(labels, task.cells, strict=True):
            pairs = zip(cells, task.metrics, strict=True)
            table.append([label, *(_cell(cell, metric) for cell, metric in pairs)])
        yield from _aligned(table)
        yield from _reasons(labels, task.metrics, task.cells)
    if found.settings:
        yield ""
        rows = [[path, *(_short(v) if v else "-" for v in values)]
                for path, values in found.settings.items()]  # fmt: skip
        yield from _aligned([["settings that differ", *labels], *rows])
    if found.warnings:
        yield ""
        yield from (f"warning: {warning}" for warning in found.warnings)
    if len(found.runs) > 1:
        yield ""
        yield (
            "^: the best value of its column, which may be chance: for significance tests run "
            "launch/evaluate.py --baseline"
        )
        yield "signed numbers: difference from the first run"


def _cell(cell: Cell, metric: str) -> str:
    if cell.found is None or cell.found.value is None:
        return "-"
    difference = "" if cell.difference is None else f" {signed(cell.difference, metric)}"
    mark = "^" if cell.is_best else " "  # kept free, so that digits stand below one another
    return f"{number(cell.found.value, metric)}{difference}{mark}"


def _reasons(
    labels: Sequence[str], metrics: Sequence[str], cells: Sequence[Sequence[Cell]]
) -> Iterator[str]:
    for label, of_run in zip(labels, cells, strict=True):
        for metric, cell in zip(metrics, of_run, strict=True):
            if cell.found is not None and cell.found.value is None:
                reason = shown(cell.found.reason or "no reason given")
                yield f"  {label} has no {metric_of(metric).label}: {reason}"


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligns the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        right = "".join(
            f"  {text:>{width}}" for text, width in zip(others, widths[1:], strict=True)
        )
        yield f"{first:<{widths[0]}}{right}".rstrip()


def _short(label: str) -> str:
    text = shown(label)
    return text if len(text) <= _LONGEST_LABEL else f"{text[:20]}...{text[-25:]}"


def _print(line: str) -> None:
    """Prints in plain ASCII where the terminal can't show more: a report must not end in a
    traceback."""
    plain = line.replace("\u2212", "-").replace(NOTHING, "-").replace("\u00b2", "2")
    encoding = sys.stdout.encoding or "ascii"
    print(plain.encode(encoding, errors="backslashreplace").decode(encoding))


if __name__ == "__main__":
    sys.exit(main())
