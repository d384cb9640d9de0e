"""A click log with known truth: exposure -> click -> (watch time, delayed conversion).

A request shows a slate of 5 items to one user. Every shown row is clicked with a known
probability; a clicked row has a watch time (log-normal, cut off by the item's duration) and, with
a known probability, a conversion that comes hours later. Click, conversion and watch time given
their row's features are independent.

Layout of a log's folder::

    dt=2024-01-01/part-00000.parquet ...         the log; see `columns.py` for every column
    _truth/dt=2024-01-01/part-00000.parquet ...  the Bayes-optimal predictions, joined by row_id
    _truth/meta.json                             config, version and parameters

Every feature of a row uses only rows with a smaller `event_time_ms` (a click is known at once).

Delayed conversions: `conversion` is what came in the end, so a job that runs at time T must not
read it. It derives what was known at T: for a clicked row 1 where `conversion_time_ms <= T`
(null is not), else 0, and only from rows with `event_time_ms <= T`. Such a label is immature: a
clicked row of age a hours shows its conversion with probability
p_conversion_given_click * (1 - exp(-a / conversion_delay_h)).

Determinism: day d is a function of the config without `days` and of d, in any process. Different
machines or numpy versions may differ in last bits.
"""

from data_pipelines.synthetic.columns import FIRST_DATE
from data_pipelines.synthetic.storage import ensure_log
from data_pipelines.synthetic.truth import (
    expected_auc,
    expected_log_loss,
    expected_ne,
)
from data_pipelines.synthetic.writing import GENERATOR_VERSION, write_log

__all__ = [
    "FIRST_DATE",
    "GENERATOR_VERSION",
    "ensure_log",
    "expected_auc",
    "expected_log_loss",
    "expected_ne",
    "write_log",
]
