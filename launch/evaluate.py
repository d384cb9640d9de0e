"""Evaluates a checkpoint offline: exact metrics, confidence intervals, slices, and a report.

  python launch/evaluate.py --checkpoint runs/globo --out reports/globo
  torchrun --nproc-per-node 2 launch/evaluate.py --checkpoint runs/globo/checkpoints/step-000001232
      --baseline runs/yesterday --data /logs --slices country,device --out reports/today

Writes DIR/report.html, report.md and report.json. The metrics are the same on any number of ranks.
Exit codes: 0 done, 1 other, 2 config, 3 data refused, 4 predictions not finite, 5 bad checkpoint,
143 stopped by a signal.
"""

from __future__ import annotations

from jobs.entrypoint.exit_codes import exit_with, rank_from_env, run_and_exit
from jobs.evaluation.arguments import parse_arguments
from marigold_rec.errors import MarigoldError


def main() -> int:
    arguments = parse_arguments(__doc__ or "")
    # Imported late: these import torch and TorchRec, and a typo should fail without them.
    from jobs.entrypoint.entrypoint import exit_on_error
    from jobs.evaluation.checkpoints import peek_config
    from jobs.evaluation.run import evaluate_checkpoint
    from marigold_rec.training import start_logging

    try:
        config = peek_config(arguments.checkpoint, arguments.overrides)
    except MarigoldError as error:
        exit_with(error)
    start_logging(None, rank_from_env())
    with exit_on_error():
        return evaluate_checkpoint(config, arguments)


if __name__ == "__main__":
    run_and_exit(main)
