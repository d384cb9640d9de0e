"""The errors that users see, and the exit code that each one ends a run with.

A message says what, where (file, column, row group, rank, step), found, expected and what to do.
`assert` is kept for our own bugs.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_OTHER = 1
EXIT_CONFIG = 2
EXIT_DATA = 3
EXIT_NUMERICS = 4
EXIT_CHECKPOINT = 5
EXIT_NOT_PUBLISHED = 6
EXIT_PREEMPTED = 143


class MarigoldError(Exception):
    """Base of all errors that are meant for users; `exit_code` is the process's exit code."""

    exit_code = EXIT_OTHER


class ConfigError(MarigoldError):
    """The config, or the way it was asked for, is wrong. `problems` holds one line per problem."""

    exit_code = EXIT_CONFIG

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        count = len(self.problems)
        head = "" if count == 1 else f"{count} problems:\n"
        super().__init__(head + "\n".join(self.problems))


class DataError(MarigoldError):
    """The data is refused: missing, broken or not what the config says."""

    exit_code = EXIT_DATA

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class NumericsError(MarigoldError):
    """A loss or a task weight is not finite; the step was stopped before its backward."""

    exit_code = EXIT_NUMERICS


class CheckpointError(MarigoldError):
    """A checkpoint is missing, damaged or does not fit the run."""

    exit_code = EXIT_CHECKPOINT


class StoppedError(MarigoldError):
    """A signal ended work that can be done again; what was trained is saved."""

    exit_code = EXIT_PREEMPTED


class EnvironmentMismatchError(MarigoldError):
    """The installed torch / torchrec / fbgemm versions do not fit together."""
