"""Damages Parquet files and configs at random, and tells what is neither refused nor harmless.

    python benchmarks/fuzz.py --count 10000 [--kind files|configs] [--first SEED]

What tests/data_pipelines/test_fuzz.py runs, for longer. Exit code 1 if anything is found.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.data_pipelines.fuzzing import fuzz

_AT_A_TIME = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=["files", "configs"], default="files")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    arguments = parser.parse_args()
    started, failures, counts = time.perf_counter(), 0, {}
    for first in range(arguments.first, arguments.first + arguments.count, _AT_A_TIME):
        left = arguments.first + arguments.count - first
        found = fuzz(arguments.kind, first, min(left, _AT_A_TIME))
        print("\n".join(found.failures), end="\n" if found.failures else "", flush=True)
        failures += len(found.failures)
        counts = {k: counts.get(k, 0) + found.counts[k] for k in {*counts, *found.counts}}
    seconds = time.perf_counter() - started
    print(f"{arguments.count:,} {arguments.kind} in {seconds:.0f} s: {counts}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
