"""What a label can be: the one table of label kinds. What differs between them is asked of it.

A new kind is an entry here, a section in `tasks` and a head that predicts it; its metrics say in
`marigold_rec.metrics` that they are of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["binary", "duration"]
"""tasks[].kind; also in reports, profiles and artefacts."""


@dataclass(frozen=True)
class LabelKind:
    title: str
    """Of its tasks in a report."""
    head: str
    """The default: tasks[].head.name."""
    is_valid: Callable[[Any, Any], Any]
    """(task, labels: a numpy array) -> which of them are valid."""
    expected: Callable[[Any], str]
    """(task) -> what a label must be, for the message about those that are not."""
    mean: str
    """What the mean of the labels is called."""
    largest_loss: float
    """Of a model that learns anything: one that knows nothing has 0.7 (binary), or the mean square
    of log(1+s) (duration), or less."""
    has_classes: bool = False
    """Labels are 0 and 1, and predictions probabilities: positives are counted, curves are ROC, PR
    and reliability, and a funnel multiplies predictions. Else labels are amounts >= 0."""
    unit: str = ""
    """Of labels and predictions, in words."""


def _binary_expected(task: Any) -> str:
    when = f", and a 1 needs its time in column {task.event_time!r}" if task.event_time else ""
    return f"a binary label must be 0 or 1{when}"


LABEL_KINDS: dict[Kind, LabelKind] = {
    "binary": LabelKind(
        title="Yes/no tasks",
        head="logistic",
        is_valid=lambda _, labels: (labels == 0) | (labels == 1),
        expected=_binary_expected,
        mean="share of positives",
        largest_loss=5.0,
        has_classes=True,
    ),
    "duration": LabelKind(
        title="Watch times",
        head="log_mse",
        is_valid=lambda task, labels: (labels >= 0) & (labels <= task.max_s),
        expected=lambda task: f"a duration must lie in [0, max_s = {task.max_s:g}] seconds",
        mean="mean label, s,",
        largest_loss=300.0,
        unit="seconds",
    ),
}
assert set(LABEL_KINDS) == set(get_args(Kind))


def has_classes(kind: Any) -> bool:
    """Also of what may be no kind at all, in a config that is not checked yet."""
    return kind in get_args(Kind) and LABEL_KINDS[kind].has_classes
