"""Trains: torchrun --nproc-per-node N launch/train.py --config FILE [key.path=value ...].

Exit codes: 0 done, 1 other, 2 config, 3 data refused, 4 numerics stopped, 5 checkpoint, 143 stopped
by a signal after a save. torchrun ends with 1 when a rank fails; summary.json holds the rank's own.
"""

from __future__ import annotations

from jobs.entrypoint.exit_codes import rank_from_env, run_and_exit
from jobs.training.arguments import load_config_or_exit, parse_arguments
from marigold_rec.config import dump_config


def main() -> int:
    arguments = parse_arguments(__doc__ or "")
    config = load_config_or_exit(arguments)
    if arguments.print_config:
        if rank_from_env() == 0:
            print(dump_config(config), end="")
        return 0
    # Imported late: these import torch and TorchRec, and a typo should fail without them.
    from jobs.entrypoint.entrypoint import entrypoint
    from jobs.training.dry_run import dry_run
    from jobs.training.run import train_and_evaluate
    from marigold_rec.distributed import start_ranks

    with entrypoint(config, is_dry_run=arguments.dry_run), start_ranks(config) as ranks:
        if arguments.dry_run:
            return dry_run(config, ranks)
        return train_and_evaluate(config, ranks, arguments.resume)


if __name__ == "__main__":
    run_and_exit(main)
