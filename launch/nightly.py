"""Nightly retraining: train on the new day, evaluate, gate, publish, report.

  python launch/nightly.py --config configs/nightly.yaml --date 2017-10-09
  python launch/nightly.py --config configs/nightly.yaml --date auto
  python launch/nightly.py --config configs/nightly.yaml --date 2017-10-05 --until 2017-10-09
  python launch/nightly.py --config configs/nightly.yaml --rollback

The newest day evaluates the model, and the next run trains on it. After a kill the same command
resumes; it does nothing when the run is done. It starts torchrun itself. See docs/operations.md.
Exit codes: 0 published, or done before, 1 other, 2 config, 3 data refused or missing, 4 numerics,
5 checkpoint, 6 not published: the gate refused, 143 stopped by a signal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from jobs.entrypoint.exit_codes import exit_with, run_and_exit
from jobs.nightly.arguments import parse_arguments
from marigold_rec.config import load_config
from marigold_rec.errors import MarigoldError


def main(fault_hook: Callable[[str], None] = lambda point: None) -> int:
    """Runs the job. `fault_hook`: called at named points, for tests that kill the process there."""
    from jobs.nightly.run import LOGGER, run_nightly
    from jobs.nightly.stages import STAGE_NAMES

    arguments = parse_arguments(__doc__ or "", STAGE_NAMES)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        config = load_config(arguments.config, arguments.overrides)
        return run_nightly(config, arguments, fault_hook)
    except MarigoldError as error:
        exit_with(error)


if __name__ == "__main__":
    run_and_exit(main)
