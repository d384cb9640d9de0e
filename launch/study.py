"""Compares balancers: python launch/study.py --study FILE --out FOLDER [key.path=value ...].

Runs each balancer of the study file with each seed, as many at a time as the cores allow, and
writes study.md, study.json and pictures into the folder. What is done is not done again: the same
command goes on after a stop, a failure or a change of the study file; overrides of the command line
belong to the settings and must be given again. Exit codes: 0 done, 1 a run failed, 2 config, 143
stopped by a signal.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from jobs.entrypoint.exits import end_with
from jobs.entrypoint.run_folder import locked
from jobs.processes.machine import default_jobs
from jobs.studies.cells import cells_of
from jobs.studies.findings import find
from jobs.studies.front_picture import draw_front
from jobs.studies.plan import Plan, make_plan
from jobs.studies.report import write_report
from jobs.studies.results import read_results
from jobs.studies.running import Progress, run_cells
from jobs.studies.weights_picture import draw_weights
from marigold_rec.errors import EXIT_DONE, EXIT_OTHER, EXIT_PREEMPTED, ConfigError


def main() -> int:
    arguments = _parse_arguments()
    out = Path(arguments.out)
    try:
        plan = make_plan(Path(arguments.study), arguments.overrides)
        if arguments.report_only:
            return _report(plan, out)
        with locked(out):
            return _run(plan, out, arguments.jobs or default_jobs(plan.file.ranks))
    except ConfigError as error:
        end_with(error)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, metavar="FILE", help="YAML study file")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for everything it writes")
    parser.add_argument(
        "--jobs", type=_positive, metavar="N", help="runs at a time (default: cores / ranks)"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="tables and pictures of what is there"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="for all runs")
    return parser.parse_intermixed_args()


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _run(plan: Plan, out: Path, jobs: int) -> int:
    cells = cells_of(plan, out)
    for cell in cells:
        cell.write_config(plan.configs[cell.name])
    left = [cell for cell in cells if not cell.is_done()]
    print(f"{len(cells)} runs, {len(cells) - len(left)} done before; {jobs} at a time", flush=True)
    progress = run_cells(plan, left, jobs, shlex.join(["python", *sys.argv]))
    if progress.was_stopped:
        print("stopped; the same command goes on", flush=True)
        return EXIT_PREEMPTED
    _report(plan, out)
    return _say_failures(progress)


def _report(plan: Plan, out: Path) -> int:
    results = read_results(plan, cells_of(plan, out))
    findings = find(plan, results)
    if not findings.rows:
        print(f"no finished run in {out}: nothing to report", file=sys.stderr)
        return EXIT_OTHER
    pictures = [draw_front(findings, out), draw_weights(findings, out)]
    write_report(findings, out, [name for name in pictures if name is not None])
    print(f"{len(results)} runs, {len(findings.missing)} missing; see {out / 'study.md'}")
    return EXIT_DONE


def _say_failures(progress: Progress) -> int:
    if not progress.failed:
        return EXIT_DONE
    print(f"\n{len(progress.failed)} runs failed; the same command tries them again:")
    for cell, reason in progress.failed.items():
        print(f"- {cell.name} seed {cell.seed}: {reason}\n  see {cell.log_file}")
    if progress.is_hopeless:
        print("none succeeded: the others were not tried")
    return EXIT_OTHER


if __name__ == "__main__":
    sys.exit(main())
