"""Scores Parquet files with an artefact: predictions beside the columns that are asked for.

  python -m marigold_rec.serving published/current --data /logs/dt=2025-03-15 --out scores.parquet
      --columns user_id,item_id

Exit codes: 0 done, 1 other, 2 --out can't be written, 3 data refused, 5 bad artefact.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from marigold_rec.errors import EXIT_DONE, MarigoldError
from marigold_rec.serving.parquet_scoring import score_parquet
from marigold_rec.serving.predictor import Predictor

_LOGGER = logging.getLogger("marigold_rec.serving")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m marigold_rec.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artefact", type=Path, help="a folder that launch/export.py has written")
    parser.add_argument(
        "--data", required=True, type=Path, metavar="PARQUET", help="a file, or a folder of them"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.parquet")
    parser.add_argument(
        "--columns", default="", metavar="COLUMN,COLUMN", help="of the data, to be written too"
    )
    found = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    columns = [name.strip() for name in found.columns.split(",") if name.strip()]
    try:
        scored = score_parquet(Predictor(found.artefact), found.data, found.out, columns)
    except MarigoldError as error:
        _LOGGER.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    for what, count in sorted(scored.counts.items()):
        _LOGGER.warning("%s: %s values", what, f"{count:,}")
    _LOGGER.info("%s rows -> %s", f"{scored.rows:,}", found.out)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
