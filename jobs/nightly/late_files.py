"""Files that came, or were written again, after a night had learned their day.

A chain of nights learns each day once: such rows would be in no model, and nobody would know. Each
night notes the files of its days (files.json); the next one says once what has come since, and
keeps it in the same file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.nightly.durable import write_durably
from jobs.nightly.folder import NightFolder
from jobs.nightly.partitions import Day, Partitions
from jobs.nightly.plan import NightPlan, days_between

LOGGER = logging.getLogger("marigold_rec")

FileStates = dict[str, tuple[int, str | None]]
"""Path below the log's folder -> size, and time or version."""


class LateDay(BaseModel):
    """What has come of a day that an earlier night had learned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: Day
    learned_by: Day
    new: tuple[str, ...]
    changed: tuple[str, ...]
    rows: int
    """Of these files, as far as they can be read."""

    @property
    def sentence(self) -> str:
        what = [f"{len(self.new)} files came"] if self.new else []
        what += [f"{len(self.changed)} were written again"] if self.changed else []
        return (
            f"{self.day} was learned by night {self.learned_by}; since then {' and '.join(what)} "
            f"({self.rows:,} rows), e.g. {(*self.new, *self.changed)[0]}: no night learns them"
        )


class LearnedFiles(BaseModel):
    """files.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: dict[Day, FileStates]
    """What the night learns, and what it has said of earlier days."""
    late: tuple[LateDay, ...]


REMEDY = (
    "to learn new files, move them into the folder of a day that no night has learned yet (their "
    "rows are learned with it); to learn a day again as it is now, begin a chain anew under "
    "another run.name with nightly.train_from"
)


def note_files(plan: NightPlan, folder: NightFolder, partitions: Partitions) -> None:
    """Writes files.json; warns of what has come since the nights before looked."""
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
    write_durably(_file(folder), content.model_dump_json(indent=1) + "\n")


def late_days(folder: NightFolder) -> tuple[LateDay, ...]:
    """What the night has warned of."""
    found = _read(folder)
    return () if found is None else found.late


def _chain(plan: NightPlan, root: Path) -> Iterator[tuple[Day, LearnedFiles]]:
    """What the nights noted from whose models the training goes on; older ones may have nothing."""
    model = plan.base
    while model is not None:
        folder = NightFolder(root, model.night)
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
    # A log that was copied as a whole has other times everywhere, and the same files.
    if len(changed) == len(now) and all(now[path][0] == seen[path][0] for path in changed):
        changed = []
    if not new and not changed:
        return None
    rows = sum(map(partitions.rows, (*new, *changed)))
    return LateDay(
        day=day, learned_by=learned_by, new=tuple(new), changed=tuple(changed), rows=rows
    )


def _file(folder: NightFolder) -> Path:
    return folder.path / "files.json"


def _read(folder: NightFolder) -> LearnedFiles | None:
    file = _file(folder)
    try:
        return LearnedFiles.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:  # no night is lost over a warning
        LOGGER.warning("%s: can't be read (%s): late files of its days go unnoticed", file, error)
        return None
