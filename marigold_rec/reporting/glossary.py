"""The figures by name: label, meaning in one line, which way is better, how many decimals.

A figure that is not listed here is shown under its own name, without a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "one"]


@dataclass(frozen=True)
class Metric:
    label: str
    meaning: str = ""
    better: Direction | None = None
    """one: the nearer to 1 the better. None: unknown, and nothing is called better or worse."""
    decimals: int = 4
    is_main: bool = False
    """Has a column in the table of tasks; the others stand in the task's own table."""

    def loss(self, value: float) -> float:
        """What is smaller for the better of two values; 0 for both where that is unknown."""
        match self.better:
            case "higher":
                return -value
            case "lower":
                return value
            case "one":
                return abs(value - 1.0)
            case None:
                return 0.0


# In the order of the columns; the first that a task has is its headline.
METRICS: dict[str, Metric] = {
    "auc": Metric(
        "AUC", "Chance that a positive row scores above a negative one; 0.5 is guessing.",
        "higher", is_main=True,
    ),
    "xauc": Metric(
        "XAUC", "Share of row pairs that the predictions order as the labels do; 0.5 is guessing.",
        "higher", is_main=True,
    ),
    "gauc": Metric(
        "GAUC", "AUC within each user, mean over users weighted by their rows.",
        "higher", is_main=True,
    ),
    "gauc_unweighted": Metric("GAUC, plain", "AUC within each user, plain mean.", "higher"),
    "gauc_user_share": Metric("GAUC users", "Share of the users with both classes: GAUC's."),
    "gauc_row_share": Metric("GAUC rows", "Share of the rows that GAUC's users have."),
    "pr_auc": Metric("PR AUC", "Area under precision over recall.", "higher"),
    "average_precision": Metric("PR AUC", "Mean precision over recall.", "higher"),
    "ne": Metric(
        "NE", "Log loss over that of always predicting the base rate; below 1 it has learned.",
        "lower", is_main=True,
    ),
    "log_loss": Metric(
        "log loss", "Mean cross-entropy per row, in nats.", "lower", is_main=True
    ),
    "calibration": Metric(
        "calibration", "Sum of predictions over sum of labels; above 1 it predicts too much.",
        "one", decimals=3, is_main=True,
    ),
    "ece": Metric("ECE", "Mean distance of predicted and actual rate over score bins.", "lower"),
    "brier": Metric("Brier", "Mean squared error of the probability.", "lower"),
    "rig": Metric("RIG", "1 less NE: the explained share of the base rate's entropy.", "higher"),
    "ndcg": Metric("NDCG", "Discounted gain of the ranking within a slate; 1 is ideal.", "higher"),
    "mrr": Metric("MRR", "Mean of 1 / rank of the first positive in a slate.", "higher"),
    "slates_share": Metric("slates", "Share of the slates with a positive: NDCG's and MRR's."),
    "mae_s": Metric("MAE, s", "Mean absolute error in seconds.", "lower", 1, is_main=True),
    "rmse_s": Metric("RMSE, s", "Root of the mean squared error in seconds.", "lower", 1,
                     is_main=True),
    "r2_log": Metric("R² of log", "Explained variance of log(1 + seconds); 1 at most.", "higher",
                     is_main=True),
    "spearman": Metric(
        "Spearman", "Correlation of the ranks: 1 alike, 0 unrelated.", "higher", is_main=True
    ),
    "gxauc": Metric("GXAUC", "XAUC within each user, mean weighted by their rows.", "higher"),
}  # fmt: skip


def metric_of(name: str) -> Metric:
    """Also of `ndcg@10` and `ndcg_at_10`, say: the meaning of `ndcg`, under its own label."""
    if name in METRICS:
        return METRICS[name]
    stem, depth = _stem(name)
    if stem not in METRICS:
        return Metric(name)
    base = METRICS[stem]
    meaning = f"{base.meaning} First {depth} places only."
    return Metric(f"{base.label}@{depth}", meaning, base.better, base.decimals)


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once: known ones in the glossary's order, then the others as they come."""
    given = list(dict.fromkeys(names))
    place = {name: i for i, name in enumerate(METRICS)}
    return sorted(given, key=lambda name: place.get(_stem(name)[0], len(place)))


def headline_metric(names: Iterable[str]) -> str | None:
    """The figure that stands for a task; None where there are none."""
    return next(iter(in_order(names)), None)


def main_metrics(names: Iterable[str]) -> list[str]:
    """What the table of tasks has columns for: never nothing where there is a figure."""
    ordered = in_order(names)
    return [name for name in ordered if metric_of(name).is_main] or ordered[:4]


def _stem(name: str) -> tuple[str, str]:
    """(ndcg, 10) of `ndcg@10` and `ndcg_at_10`."""
    stem, _, depth = name.replace("_at_", "@").partition("@")
    return stem, depth
