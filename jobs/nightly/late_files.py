"""Detects files that arrived, or were rewritten, after a nightly run had trained on their day.

A chain of nightly runs trains on each day once: such rows would be in no model, unnoticed. Each run
records the files of its days (files.json); the next one warns once of what has arrived since, and
records that in the same file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from jobs.nightly.folder import NightlyFolder
from jobs.nightly.partitions import Day, Partitions
from jobs.nightly.plan import NightlyPlan, days_between
from marigold_rec.atomic_io import write_atomically
from marigold_rec.record import Record

LOGGER = logging.getLogger("marigold_rec")

FileStates = dict[str, tuple[int, str | None]]
"""Path below the log's folder -> size, and time or version."""


class LateDay(Record):
    """The files of a day that have arrived since an earlier run trained on it."""

    day: Day
    learned_by: Day
    new: tuple[str, ...]
    changed: tuple[str, ...]
    rows: int
    """Rows of these files, as far as they can be read."""

    @property
    def sentence(self) -> str:
        what = [f"{len(self.new)} files have arrived"] if self.new else []
        what += [f"{len(self.changed)} were rewritten"] if self.changed else []
        return (
            f"nightly run {self.learned_by} has trained on {self.day}; since then "
            f"{' and '.join(what)} ({self.rows:,} rows), e.g. {(*self.new, *self.changed)[0]}: no "
            "model is trained on them"
        )


class LearnedFiles(Record):
    """The content of files.json."""

    days: dict[Day, FileStates]
    """Files that the run trains on, and those of earlier days that it has warned of."""
    late: tuple[LateDay, ...]


REMEDY = (
    "to train on them, move them into the folder of a day that no nightly run has trained on yet; "
    "to train on a whole day again, start a new chain under another run.name with "
    "nightly.train_from"
)


def record_files(plan: NightlyPlan, folder: NightlyFolder, partitions: Partitions) -> None:
    """Writes files.json; warns of files that have arrived since the runs before looked."""
    there = partitions.files()
    late: list[LateDay] = []
    seen: dict[Day, FileStates] = {}
    learned_by: dict[Day, Day] = {}
    for night, found in _chain(plan, folder.root):  # the newest first
        for day, states in found.days.items():
            seen[day] = {**states, **seen.get(day, {})}
            learned_by[day] = night
    for day in sorted(seen):
        if (found := _late(day, learned_by[day], seen[day], there, partitions)) is not None:
            late.append(found)
            LOGGER.warning("%s; %s", found.sentence, REMEDY)
    known = {day: there.get(day, {}) for day in days_between(*plan.train)}
    known |= {found.day: there[found.day] for found in late}
    content = LearnedFiles(days=known, late=tuple(late))
    write_atomically(_file(folder), content.json_text())


def late_days(folder: NightlyFolder) -> tuple[LateDay, ...]:
    """Returns what the run has warned of."""
    found = _read(folder)
    return () if found is None else found.late


def _chain(plan: NightlyPlan, root: Path) -> Iterator[tuple[Day, LearnedFiles]]:
    """Yields the records of the runs whose models the training continues, the newest first."""
    model = plan.base
    while model is not None:
        folder = NightlyFolder(root, model.night)
        if (found := _read(folder)) is not None:
            yield model.night, found
        model = None if folder.plan is None else folder.plan.base


def _late(
    day: Day,
    learned_by: Day,
    seen: FileStates,
    there: dict[Day, FileStates],
    partitions: Partitions,
) -> LateDay | None:
    now = there.get(day, {})
    new = [path for path in now if path not in seen]
    changed = [path for path in now if path in seen and now[path] != seen[path]]
    # A log that was copied as a whole has other times everywhere, but the same files.
    if len(changed) == len(now) and all(now[path][0] == seen[path][0] for path in changed):
        changed = []
    if not new and not changed:
        return None
    rows = sum(map(partitions.rows, (*new, *changed)))
    return LateDay(
        day=day, learned_by=learned_by, new=tuple(new), changed=tuple(changed), rows=rows
    )


def _file(folder: NightlyFolder) -> Path:
    return folder.path / "files.json"


def _read(folder: NightlyFolder) -> LearnedFiles | None:
    file = _file(folder)
    try:
        return LearnedFiles.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:  # a warning must not end a nightly run
        LOGGER.warning("%s: can't be read (%s): late files are not detected", file, error)
        return None
