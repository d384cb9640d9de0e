"""Exports a checkpoint as an artefact: a folder that `marigold_rec.serving.Predictor` serves.

  python launch/export.py --checkpoint runs/globo --out artefacts/globo
  python launch/export.py --checkpoint runs/globo/checkpoints/step-000001232 --out artefacts/small
      --tables int8

One process, on CPU. The folder appears whole or not at all.
Exit codes: 0 done, 1 other, 2 config (also: --out can't be written), 5 bad checkpoint.
"""

from __future__ import annotations

from jobs.entrypoint.exits import end_process
from jobs.export.arguments import parse_arguments


def main() -> int:
    arguments = parse_arguments(__doc__ or "")
    # Not above: these import torch and TorchRec, and a typo should not wait for that.
    from jobs.entrypoint.doorway import errors_in_plain_words
    from jobs.export.run import export_checkpoint
    from marigold_rec.training import start_logging

    start_logging(None, 0)
    with errors_in_plain_words():
        return export_checkpoint(arguments)


if __name__ == "__main__":
    end_process(main)
