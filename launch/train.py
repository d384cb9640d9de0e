"""Trains: torchrun --nproc-per-node N launch/train.py --config FILE [key.path=value ...].

Exit codes: 0 done, 1 other, 2 config, 3 data refused, 4 numerics stopped, 5 checkpoint, 143 stopped
by a signal after a save. torchrun ends with 1 when a rank fails; summary.json holds the rank's own.
"""

from __future__ import annotations

from jobs.entrypoint.exits import end_process, rank_of_environment
from jobs.training.arguments import load_config_or_exit, parse_arguments
from marigold_rec.config import dump_config


def main() -> int:
    arguments = parse_arguments(__doc__ or "")
    config = load_config_or_exit(arguments)
    if arguments.print_config:
        if rank_of_environment() == 0:
            print(dump_config(config), end="")
        return 0
    # Not above: these import torch and TorchRec, and a typo should not wait for that.
    from jobs.entrypoint.doorway import doorway
    from jobs.training.dry_run import dry_run
    from jobs.training.run import train_and_evaluate
    from marigold_rec.distributed import start_ranks

    with doorway(config, is_dry_run=arguments.dry_run), start_ranks(config) as ranks:
        if arguments.dry_run:
            return dry_run(config, ranks)
        return train_and_evaluate(config, ranks, arguments.resume)


if __name__ == "__main__":
    end_process(main)
