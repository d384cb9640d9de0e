"""Forks launch/nightly.py, whose stages are forked too: a small nightly run takes seconds.

tests/jobs/nightly/test_nightly.py shows that it also runs as programs of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.entrypoint.run_folder import run_folder
from marigold_rec.config import load_config
from tests.support.forked_python import Forked, ForkedPython


class Nightly(Forked):
    """`python launch/nightly.py --config CONFIG ARGUMENTS`, forked, with its output in `log`.

    It is killed at the point `killed_at` (tests/jobs/nightly/killed.py).
    """

    def __init__(
        self, config: Path, *arguments: str, log: Path, killed_at: str | None = None
    ) -> None:
        super().__init__("nightly", _night_main, config, arguments, killed_at, log=log)


def _night_main(config: Path, arguments: tuple[str, ...], killed_at: str | None) -> int:
    from jobs.processes import torchrun
    from launch import nightly
    from tests.jobs.nightly.killed import killer

    setattr(torchrun, "Popen", ForkedPython)  # noqa: B010 - its own type is narrower
    sys.argv = ["launch/nightly.py", "--config", str(config), *arguments]
    if killed_at is None:
        return nightly.main()
    return nightly.main(killer(killed_at, run_folder(load_config(config)) / "nights"))
