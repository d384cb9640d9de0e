"""torchrun without the seconds in which each of its processes imports torch and torchrec.

The command line, the agent, its rendezvous and its restarts are torchrun's own. But the agent is
forked, and where it starts `python -u SCRIPT ...` for a rank it forks itself instead
(tests/support/forked_python.py): a start, and each restart, takes tenths of a second. That the same
programs run from a bare interpreter is shown elsewhere (tests/training/test_stop.py,
tests/launch/test_slurm.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.forked_python import Forked, fork_ranks


class Torchrun(Forked):
    """`torchrun ARGUMENTS`, whose words go to the end of `log`."""

    def __init__(self, *arguments: str, log: Path) -> None:
        super().__init__("torchrun", _agent_main, arguments, log=log)


def _agent_main(arguments: tuple[str, ...]) -> None:
    from torch.distributed.run import main

    fork_ranks()
    sys.argv = ["torchrun", *arguments]
    main()
