"""Caches a profile of each day, made once for each state of its files, for the data's gate."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_pipelines.profile.split import profile_split
from jobs.nightly.partitions import Day, Partitions
from jobs.nightly.plan import ONE_DAY
from marigold_rec.atomic_io import read_json, write_atomically
from marigold_rec.config.schema import Config
from marigold_rec.profile import PROFILE_FORMAT, Profile


class DayProfiles:
    """The files <root>/profiles/<day>-<number>-<state>.json, and .refused beside refused ones."""

    def __init__(self, root: Path, config: Config, data_root: str, partitions: Partitions) -> None:
        self._folder = root / "profiles"
        self._config = config
        self._data_root = data_root
        self._partitions = partitions

    def get(self, day: Day) -> Profile:
        """Profiles the day's files as they are now. Raises DataError if a file can't be read."""
        return _read(self._file(day))

    def earlier(self, day: Day, days: int) -> list[Profile]:
        """Returns the profiles of the complete days among the `days` before `day`, without refused
        ones.

        A day whose files were rewritten keeps its first profile: it was made when that day was as
        old as `day` is now, so that labels which arrived later are in neither.
        """
        found: list[Profile] = []
        complete = set(self._partitions.complete())
        for earlier in (day - n * ONE_DAY for n in range(1, days + 1)):
            if earlier in complete:
                self._file(earlier)
                accepted = [f for f in self._all(earlier) if not _refusal(f).exists()]
                found += [_read(file) for file in accepted[:1]]
        return found

    def record(self, day: Day, *, is_refused: bool) -> None:
        """Stores the gate's decision on the day's files as they are now."""
        refusal = _refusal(self._file(day))
        if is_refused:
            write_atomically(refusal, "")
        else:
            refusal.unlink(missing_ok=True)

    def _file(self, day: Day) -> Path:
        """Returns the profile's file for the day's present files, and makes it if it is missing."""
        key = f"{self._settings()} {self._partitions.state(day)}"
        state = hashlib.sha256(key.encode()).hexdigest()[:12]
        of_day = self._all(day)
        for file in of_day:
            if file.stem.endswith(state):
                return file
        profile = profile_split(self._config, self._data_root, (day, day))
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{day}-{len(of_day):03d}-{state}.json"
        write_atomically(file, profile.json_text())
        return file

    def _all(self, day: Day) -> list[Path]:
        """Lists the day's profiles in the order in which they were made."""
        return sorted(self._folder.glob(f"{day}-???-????????????.json"))

    def _settings(self) -> str:
        """Returns the settings and the format that decide a profile."""
        config = self._config
        data = [config.data.weight, config.data.time, config.data.time_unit]
        return str([PROFILE_FORMAT, config.features, config.tasks, data])


def _read(file: Path) -> Profile:
    profile = read_json(file, Profile, "remove it: it is rebuilt from the day's files")
    assert profile is not None, "it was found in its folder"
    return profile


def _refusal(file: Path) -> Path:
    return file.with_suffix(".refused")
