"""A profile of each day, made once for each state of its files: what new days are held against."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_pipelines.profile.split import profile_split
from jobs.nightly.durable import read_durable, write_durably
from jobs.nightly.partitions import Day, Partitions
from jobs.nightly.plan import ONE_DAY
from marigold_rec.config import Config
from marigold_rec.gating import Profile
from marigold_rec.gating.profile import PROFILE_FORMAT


class DayProfiles:
    """Below <root>/profiles: <day>-<number>-<state>.json, and beside it .refused if it was."""

    def __init__(self, root: Path, config: Config, data_root: str, partitions: Partitions) -> None:
        self._folder = root / "profiles"
        self._config = config
        self._data_root = data_root
        self._partitions = partitions

    def of(self, day: Day) -> Profile:
        """Of the day's files as they are now. Raises DataError: files that can't be read."""
        return _read(self._file(day))

    def usual(self, day: Day, days: int) -> list[Profile]:
        """Of the complete days among the `days` before `day` that were not refused themselves.

        A day whose files were written again is taken as it was first: as old as `day` is now, so
        that labels which came in since are in neither.
        """
        found: list[Profile] = []
        there = set(self._partitions.complete())
        for earlier in (day - n * ONE_DAY for n in range(1, days + 1)):
            if earlier in there:
                self._file(earlier)
                accepted = [f for f in self._all(earlier) if not _refusal(f).exists()]
                found += [_read(file) for file in accepted[:1]]
        return found

    def note(self, day: Day, *, is_refused: bool) -> None:
        """Remembers what the gate has said of the day's files as they are now."""
        refusal = _refusal(self._file(day))
        if is_refused:
            write_durably(refusal, "")
        else:
            refusal.unlink(missing_ok=True)

    def _file(self, day: Day) -> Path:
        """The profile of the day's present files; made where it is not there."""
        key = f"{self._what()} {self._partitions.state(day)}"
        state = hashlib.sha256(key.encode()).hexdigest()[:12]
        of_day = self._all(day)
        for file in of_day:
            if file.stem.endswith(state):
                return file
        profile = profile_split(self._config, self._data_root, (day, day))
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{day}-{len(of_day):03d}-{state}.json"
        write_durably(file, profile.json_text())
        return file

    def _all(self, day: Day) -> list[Path]:
        """In the order in which they were made."""
        return sorted(self._folder.glob(f"{day}-???-????????????.json"))

    def _what(self) -> str:
        """What of config and program decides a profile."""
        config = self._config
        data = [config.data.weight, config.data.time, config.data.time_unit]
        return str([PROFILE_FORMAT, config.features, config.tasks, data])


def _read(file: Path) -> Profile:
    profile = read_durable(file, Profile, "remove it: it is made again from the day's files")
    assert profile is not None, "it was found in its folder"
    return profile


def _refusal(file: Path) -> Path:
    return file.with_suffix(".refused")
