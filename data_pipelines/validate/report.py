"""What a validation found, for people and for machines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_pipelines.inputs.checks import InputChecks
from data_pipelines.inputs.text_table import text_table
from marigold_rec.errors import ConfigError


@dataclass
class TaskFindings:
    """Labels of one task, over all rows."""

    name: str
    column: str
    observed: int = 0
    nulls: int = 0
    nan: int = 0
    invalid: int = 0
    """Observed, and not what the task takes."""
    example: float | None = None
    max_invalid_share: float = 0.0

    @property
    def invalid_share(self) -> float:
        return self.invalid / self.observed if self.observed else 0.0


@dataclass
class FeatureFindings:
    """What the transforms dropped or replaced of one feature, over all rows."""

    name: str
    column: str
    kind: str
    policy: str
    """What becomes of an id out of range; - where there is no such thing."""
    counts: dict[str, int] = field(default_factory=dict)
    """missing, non_finite, out_of_range, out_of_vocab, cut: what occurred."""
    example: int | None = None
    """The first id out of range."""


@dataclass
class DayFindings:
    """day: of the dt= folder, "-" without one."""

    day: str
    files: int = 0
    rows: int = 0
    observed: dict[str, int] = field(default_factory=dict)
    label_sums: dict[str, float] = field(default_factory=dict)

    @property
    def label_means(self) -> dict[str, float | None]:
        return {
            name: self.label_sums[name] / count if count else None
            for name, count in self.observed.items()
        }


@dataclass
class ChecksumFindings:
    files_with: int = 0
    files_without: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """`<file> row group <n>`."""


@dataclass
class Report:
    path: str
    files: int = 0
    rows: int = 0
    row_groups: int = 0
    schema_hash: str | None = None
    problems: list[str] = field(default_factory=list)
    """What must be mended: a run would be refused for most of it, at its start or in its midst."""
    warnings: list[str] = field(default_factory=list)
    checksums: ChecksumFindings = field(default_factory=ChecksumFindings)
    tasks: list[TaskFindings] = field(default_factory=list)
    features: list[FeatureFindings] = field(default_factory=list)
    days: list[DayFindings] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    """Groups of files of equal bytes."""
    inputs: InputChecks | None = None
    """None where the columns do not fit the config."""

    @property
    def is_refused(self) -> bool:
        return bool(self.problems)

    @property
    def is_good(self) -> bool:
        """Nothing is refused, and nothing in the values would ruin a model without an error."""
        return not self.problems and not (self.inputs and self.inputs.values)

    def write_json(self, path: Path) -> None:
        """Raises ConfigError when it can't be written."""
        tree = {"is_good": self.is_good, "is_refused": self.is_refused, **dataclasses.asdict(self)}
        for day, found in zip(tree["days"], self.days, strict=True):
            day["label_means"] = found.label_means
        for task, found in zip(tree["tasks"], self.tasks, strict=True):
            task["invalid_share"] = found.invalid_share
        try:
            path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--json: can't write {path} ({error.strerror})") from error

    def lines(self) -> Iterator[str]:
        """For people, in aligned tables."""
        groups = f"{self.row_groups:,} row groups"
        yield f"{self.path}: {self.rows:,} rows in {self.files:,} files and {groups}"
        yield f"page checksums: {self._checksum_line()}"
        if self.schema_hash is not None:
            yield f"schema hash: {self.schema_hash}"
        if self.days:
            names = [task.name for task in self.tasks]
            yield ""
            yield from text_table(
                ["day", "files", "rows", *(f"mean {name}" for name in names)],
                [
                    [day.day, f"{day.files:,}", f"{day.rows:,}"]
                    + [_figure(day.label_means.get(name)) for name in names]
                    for day in self.days
                ],
            )
        if self.tasks:
            yield ""
            yield from text_table(
                ["task", "column", "observed", "null", "NaN", "invalid", "share", "allowed"],
                [_task_cells(task) for task in self.tasks],
            )
        if self.features:
            whats = ["missing", "non_finite", "out_of_range", "out_of_vocab", "cut"]
            yield ""
            yield from text_table(
                ["feature", "column", "kind", "policy", *whats],
                [
                    [
                        f.name,
                        f.column,
                        f.kind,
                        f.policy,
                        *(f"{f.counts.get(w, 0):,}" for w in whats),
                    ]
                    for f in self.features
                ],
            )
        for same in self.duplicates:
            yield f"duplicates: {', '.join(same)}"
        if self.inputs is not None:
            yield ""
            yield from self.inputs.lines()
        found = () if self.inputs is None else self.inputs.warnings
        yield from (f"warning: {line}" for line in (*self.warnings, *found))
        yield from (f"problem: {line}" for line in self.problems)
        yield self._verdict()

    def _verdict(self) -> str:
        if self.problems:
            return f"refused: {len(self.problems)} problems"
        if self.inputs is not None and (found := self.inputs.values):
            return (
                f"not refused, but {len(found)} warning{'' if len(found) == 1 else 's'} about the "
                "values: a model of them may be worth nothing"
            )
        return "good"

    def _checksum_line(self) -> str:
        found = self.checksums
        if not found.files_with and not found.files_without:
            return "no rows to look at"
        if not found.files_with:
            return "none: damage can't be told from data; write the files with page checksums"
        without = f", {len(found.files_without):,} files carry none" if found.files_without else ""
        return f"{len(found.failures):,} row groups fail{without}"


def _task_cells(task: TaskFindings) -> list[str]:
    counts = (task.observed, task.nulls, task.nan, task.invalid)
    shares = (task.invalid_share, task.max_invalid_share)
    return [task.name, task.column, *(f"{n:,}" for n in counts), *(f"{s:.2%}" for s in shares)]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
