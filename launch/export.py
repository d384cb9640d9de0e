"""Exports a checkpoint as an artefact: a folder that `marigold_rec.serving.Predictor` serves.

  python launch/export.py --checkpoint runs/globo --out artefacts/globo
  python launch/export.py --checkpoint runs/globo/checkpoints/step-000001232 --out artefacts/small
      --tables int8

Runs as one process, on CPU. The folder is written atomically.
Exit codes: 0 done, 1 other, 2 config (also: --out can't be written), 5 bad checkpoint.
"""

from __future__ import annotations

from jobs.entrypoint.exit_codes import run_and_exit
from jobs.export.arguments import parse_arguments


def main() -> int:
    arguments = parse_arguments(__doc__ or "")
    # Imported late: these import torch and TorchRec, and a typo should fail without them.
    from jobs.entrypoint.entrypoint import exit_on_error
    from jobs.export.run import export_checkpoint
    from marigold_rec.training import start_logging

    start_logging(None, 0)
    with exit_on_error():
        return export_checkpoint(arguments)


if __name__ == "__main__":
    run_and_exit(main)
