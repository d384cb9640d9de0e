"""Compares balancers: python launch/study.py --study FILE --out FOLDER [key.path=value ...].

Runs each balancer of the study file with each seed, as many at a time as the cores allow, and
writes study.md, study.json and plots into the folder. Finished runs are kept: the same command
continues after a stop, a failure or a change of the study file. Command-line overrides are part of
the settings and must be given again. Exit codes: 0 done, 1 a run failed, 2 config, 143 stopped by a
signal.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from jobs.entrypoint.exit_codes import exit_with
from jobs.entrypoint.run_folder import lock_folder
from jobs.processes.machine import default_jobs
from jobs.studies.front_picture import draw_front
from jobs.studies.plan import Plan, make_plan
from jobs.studies.report import write_report
from jobs.studies.results import read_results
from jobs.studies.running import Progress, run_trials
from jobs.studies.study_results import collect_results
from jobs.studies.trials import trials_of
from jobs.studies.weights_picture import draw_weights
from marigold_rec.errors import EXIT_DONE, EXIT_OTHER, EXIT_PREEMPTED, ConfigError


def main() -> int:
    arguments = _parse_arguments()
    out = Path(arguments.out)
    try:
        plan = make_plan(Path(arguments.study), arguments.overrides)
        if arguments.report_only:
            return _report(plan, out)
        with lock_folder(out):
            return _run(plan, out, arguments.jobs or default_jobs(plan.file.ranks))
    except ConfigError as error:
        exit_with(error)


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
    trials = trials_of(plan, out)
    for trial in trials:
        trial.write_config(plan.configs[trial.name])
    left = [trial for trial in trials if not trial.is_done()]
    print(
        f"{len(trials)} runs, {len(trials) - len(left)} done before; {jobs} at a time", flush=True
    )
    progress = run_trials(plan, left, jobs, shlex.join(["python", *sys.argv]))
    if progress.was_stopped:
        print("stopped; run the same command again to continue", flush=True)
        return EXIT_PREEMPTED
    _report(plan, out)
    return _print_failures(progress)


def _report(plan: Plan, out: Path) -> int:
    results = read_results(plan, trials_of(plan, out))
    study = collect_results(plan, results)
    if not study.rows:
        print(f"no finished run in {out}: nothing to report", file=sys.stderr)
        return EXIT_OTHER
    pictures = [draw_front(study, out), draw_weights(study, out)]
    write_report(study, out, [name for name in pictures if name is not None])
    print(f"{len(results)} runs, {len(study.missing)} missing; see {out / 'study.md'}")
    return EXIT_DONE


def _print_failures(progress: Progress) -> int:
    if not progress.failed:
        return EXIT_DONE
    print(f"\n{len(progress.failed)} runs failed; run the same command again to retry them:")
    for trial, reason in progress.failed.items():
        print(f"- {trial.name} seed {trial.seed}: {reason}\n  see {trial.log_file}")
    if progress.is_hopeless:
        print("none succeeded: the other runs were not started")
    return EXIT_OTHER


if __name__ == "__main__":
    sys.exit(main())
