"""One task's figures on every slice of its rows, and which slices stand out.

A slice is compared with the baseline on the same rows or, without one, with all rows. With many
slices some differ by chance: q-values hold the share of false alarms among those called different
(Benjamini and Hochberg 1995). That asks for p-values that are right far out in the tails, so that
slices of few users have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import false_discovery_control

from marigold_rec.analysis.codes import Codes, num_codes
from marigold_rec.analysis.estimate import Difference, Estimate, difference
from marigold_rec.analysis.figures import estimates, figures
from marigold_rec.analysis.report import Slice
from marigold_rec.analysis.row_arrays import chunks, empty, rows_where, taken
from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.slicing import Slicing
from marigold_rec.config.label_kinds import LABEL_KINDS, Kind
from marigold_rec.metrics import headline_of

_MIN_USERS = 20
"""Of each class: a slice with fewer is shown and not tested. The spread of two positives says
nothing of how far an AUC lies from its expectation; without this limit most reports on data without
any difference had a false alarm."""


@dataclass(frozen=True)
class TaskRows:
    """A task's observed rows, scored by the model and perhaps by a baseline."""

    name: str
    kind: Kind
    new: Rows
    old: Rows | None
    """The same rows with the baseline's scores."""
    which_N: NDArray[np.intp] | slice
    """Their places among all rows of the split."""


def slice_reports(
    task: TaskRows,
    whole: Estimate,
    slicings: Sequence[Slicing],
    *,
    confidence: float,
) -> Iterator[Slice]:
    """`whole`: the headline figure over all of the task's rows. q-values are not set yet."""
    for slicing in slicings:
        code_N = taken(slicing.code_N, task.which_N)
        for code, value in enumerate(slicing.values):
            place_n = _rows_of(code_N, code)
            if len(place_n):
                yield _slice_report(task, whole, slicing.name, value, place_n, confidence)


def _rows_of(code_N: NDArray[np.int32], code: int) -> NDArray[np.intp]:
    return rows_where(len(code_N), lambda part: code_N[part] == code)


def worst_first(slices: Iterable[Slice]) -> tuple[Slice, ...]:
    """Sorted by how surely they are worse, or without a baseline by how surely they differ; with
    q-values over all of them."""
    found = list(slices)
    tested = [i for i, s in enumerate(found) if s.p_value is not None]
    p_values = np.array([found[i].p_value for i in tested], np.float64)
    if tested:
        for i, q in zip(tested, false_discovery_control(p_values), strict=True):
            found[i] = found[i].model_copy(update={"q_value": float(q)})
    return tuple(sorted(found, key=_surely_worse))


def _surely_worse(found: Slice) -> tuple[int, float, float, str]:
    """Negative differences by rising p, then the others by falling p, then those untested.

    Against all rows a slice is not worse, but other rows: then all by rising p.
    """
    if found.p_value is None or found.difference is None:
        return (2, 0.0, float(-found.rows), found.value)
    if found.against != "baseline":
        return (0, found.p_value, -abs(found.difference), found.value)
    if found.difference < 0:
        return (0, found.p_value, found.difference, found.value)
    return (1, -found.p_value, found.difference, found.value)


def _slice_report(
    task: TaskRows,
    whole: Estimate,
    name: str,
    value: str,
    place_n: NDArray[np.intp],
    confidence: float,
) -> Slice:
    rows = task.new.take(place_n)
    users = None
    if rows.user_N is not None:
        # Numbered anew: influences as long as all users, for each slice, would cost too much.
        users, user_N = _numbered_anew(rows.user_N)
        rows = rows.with_users(user_N)
    new = estimates(task.kind, rows)
    old = None
    if task.old is not None:
        before = task.old.take(place_n)
        old = estimates(task.kind, rows.with_scores(before.score_N, before.columns))
    metric = headline_of(task.kind)
    has_classes = LABEL_KINDS[task.kind].has_classes
    if old is not None:
        found = difference(new[metric], old[metric], confidence)
    else:
        clusters = place_n if users is None else users
        found = _against_whole(new[metric], whole, clusters, confidence)
    if found is not None and not _is_testable(rows, has_classes):
        found = Difference(found.delta, None, None, None)
    return Slice(
        name=name,
        value=value,
        task=task.name,
        rows=len(rows),
        users=None if users is None else len(users),
        positives=int(np.count_nonzero(rows.label_N)) if has_classes else None,
        figures=figures(new, old, confidence),
        metric=metric,
        against="all rows" if old is None else "baseline",
        difference=None if found is None else found.delta,
        difference_low=None if found is None else found.low,
        difference_high=None if found is None else found.high,
        p_value=None if found is None else found.p_value,
        q_value=None,
    )


def _against_whole(
    part: Estimate, whole: Estimate, clusters: NDArray[np.intp], confidence: float
) -> Difference | None:
    """The slice's clusters are some of the whole's: their influences overlap, and are paired.

    Tested on the scale of the log odds: there, unlike on the plain one, a small slice whose AUC
    came out high does not look surer than one whose AUC came out low. The interval is put back
    around the plain difference, so that it holds 0 just where p says so.
    """
    if part.influence_C is None or whole.influence_C is None:
        return None
    influence_C = np.zeros_like(whole.influence_C)
    influence_C[clusters] = part.influence_C
    part = Estimate(part.value, influence_C)
    plain = difference(part, whole, confidence)
    if plain is None or plain.p_value in (None, 1.0):
        return plain
    odds_part, odds_whole = _log_odds(part), _log_odds(whole)
    if odds_part is None or odds_whole is None:
        return Difference(plain.delta, None, None, None)
    found = difference(odds_part, odds_whole, confidence)
    if found is None or found.low is None or found.high is None:
        return Difference(plain.delta, None, None, None)
    slope = plain.delta / found.delta
    return Difference(plain.delta, found.low * slope, found.high * slope, found.p_value)


def _log_odds(found: Estimate) -> Estimate | None:
    """None at the ends of the scale: 3 rows in their right order are not certainty."""
    if found.value is None or found.influence_C is None or not 0.0 < found.value < 1.0:
        return None
    return Estimate(
        float(logit(found.value)), found.influence_C / (found.value * (1.0 - found.value))
    )


def _is_testable(rows: Rows, has_classes: bool) -> bool:
    of_class_C = np.zeros((2, len(rows) if rows.user_N is None else num_codes(rows.user_N)), bool)
    for part in chunks(len(rows)):
        is_one_n = rows.label_N[part] != 0 if has_classes else np.zeros(1, bool)
        cluster_n = np.arange(part.start, part.stop) if rows.user_N is None else rows.user_N[part]
        of_class_C[is_one_n.astype(np.intp), cluster_n] = True
    classes = of_class_C if has_classes else of_class_C[:1]
    return bool((np.count_nonzero(classes, axis=1) >= _MIN_USERS).all())


def _numbered_anew(user_N: Codes) -> tuple[NDArray[np.intp], Codes]:
    """(the users that have a row, ascending; each row's place among them)."""
    is_there = np.zeros(num_codes(user_N), np.bool_)
    for part in chunks(len(user_N)):
        is_there[user_N[part]] = True
    place = np.cumsum(is_there, dtype=np.int32)
    place -= 1
    anew_N = empty(len(user_N), np.int32)
    for part in chunks(len(user_N)):
        anew_N[part] = place[user_N[part]]
    return np.flatnonzero(is_there), anew_N
