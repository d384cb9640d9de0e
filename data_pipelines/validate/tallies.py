"""Counts of labels, features and days, over all rows of a split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data_pipelines.inputs.checks import InputTally
from data_pipelines.labels.due import LabelTimes
from data_pipelines.labels.event_time import is_time
from data_pipelines.validate.report import DayFindings, FeatureFindings, TaskFindings
from marigold_rec.config.features import IdFeature
from marigold_rec.config.schema import Config
from marigold_rec.transforms.columns import float64_values, lone_array
from marigold_rec.transforms.examples import exact
from marigold_rec.transforms.jagged import flatten


class Tallies:
    """Fed with pieces of the split's rows; what training would refuse is counted, not refused."""

    def __init__(self, config: Config) -> None:
        self._config = config
        # All labels, whenever they become due: the log is judged, and not one night's part of it.
        self.inputs = InputTally(config, None)
        tables = config.tables
        rows = {table.name: table.rows for table in tables}
        self._ids = [
            (i, f, rows[f.table_name])
            for i, f in enumerate(config.features)
            if isinstance(f, IdFeature)
        ]
        limit = config.data.max_invalid_labels
        self.tasks = [TaskFindings(t.name, t.label, max_invalid_share=limit) for t in config.tasks]
        if config.data.weight is not None:
            self.tasks.append(TaskFindings("weight", config.data.weight, max_invalid_share=limit))
        if (time := LabelTimes(config, None).time) is not None:
            self.tasks.append(TaskFindings("time", time, max_invalid_share=limit))
        self._what: dict[str, str] = {}
        self.features = [
            FeatureFindings(f.name, ", ".join(f.columns), f.kind, getattr(f, "out_of_range", "-"))
            for f in config.features
        ]

    def add(self, table: pa.Table, day: DayFindings) -> None:
        features, labels = self.inputs.add(table)
        for task, tally in zip(self.tasks, labels.tallies, strict=True):
            column = lone_array(table.column(task.column))
            task.observed += tally.num_seen
            task.nulls += column.null_count
            if not is_time(column.type):  # an integer or a timestamp is never NaN
                nan = int(np.count_nonzero(np.isnan(float64_values(column))))
                task.nan += nan - column.null_count
            if tally.num_invalid and task.invalid == 0:
                task.example = tally.example if tally.example == tally.example else None
            task.invalid += tally.num_invalid
            self._what[task.name] = tally.what
        for index, task in enumerate(self._config.tasks):
            observed_B = labels.observed_BT[:, index] > 0
            values_B = labels.labels_BT[:, index][observed_B]
            day.observed[task.name] = day.observed.get(task.name, 0) + len(values_B)
            total = float(values_B.sum(dtype=np.float64))
            day.label_sums[task.name] = day.label_sums.get(task.name, 0.0) + total
        by_name = {feature.name: feature for feature in self.features}
        for key, count in features.counts.items():
            what, _, name = key.partition("/")
            found = by_name[name].counts
            found[what] = found.get(what, 0) + count
        for index, feature, rows in self._ids:
            findings = self.features[index]
            if findings.counts.get("out_of_range") and findings.example is None:
                for value in flatten(table.column(feature.source), feature.cut).values.to_pylist():
                    if not 0 <= value < rows:
                        findings.example = int(value)
                        break

    def problems(self) -> list[str]:
        """What training would be refused for."""
        lines = [
            f"{self._what[task.name]}, but {task.invalid:,} of {task.observed:,} are not "
            f"({task.invalid_share:.2%}), e.g. "
            f"{'null or NaN' if task.example is None else exact(task.example)}; allowed are "
            f"{task.max_invalid_share:.2%} (data.max_invalid_labels)"
            for task in self.tasks
            if task.invalid > task.max_invalid_share * task.observed
        ]
        lines += [
            f"features.{feature.name}: {found.counts['out_of_range']:,} ids in column "
            f"{feature.source!r} are outside [0, {rows}), the first is {found.example}; give the "
            "table more rows, use kind: hash, or choose out_of_range: drop or clamp"
            for index, feature, rows in self._ids
            if (found := self.features[index]).counts.get("out_of_range")
            and feature.out_of_range == "error"
        ]
        return lines
