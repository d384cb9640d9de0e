"""What happens after an exposure, and the best that any model can predict of it.

Shapes: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_pipelines.synthetic.exposures import HOUR_MS
from data_pipelines.synthetic.preferences import Probabilities
from data_pipelines.synthetic.random_streams import Floats, Ints, stream
from data_pipelines.synthetic.watch_time import expected_watch_s, watch_log1p_moments
from marigold_rec.config.data import SyntheticConfig

WATCH_SIGMA = 0.9  # of log T: no feature explains this part


@dataclass(frozen=True)
class Outcomes:
    """What happened; conversion and watch time mean something only where `click_B`."""

    click_B: npt.NDArray[np.bool_]
    conversion_B: npt.NDArray[np.bool_]
    conversion_delay_ms_B: Ints
    watch_time_s_B: npt.NDArray[np.float32]
    censored_B: npt.NDArray[np.bool_]  # the item ended first


def draw_outcomes(
    config: SyntheticConfig, day: int, truth: Probabilities, duration_s_B: Floats
) -> Outcomes:
    rng, rows = stream(config.seed, "outcomes", day), len(truth.click_B)
    click_B, conversion_B = rng.random(rows) < truth.click_B, rng.random(rows) < truth.conversion_B
    delay_ms_B = rng.exponential(config.conversion_delay_h * HOUR_MS, rows)
    free_s_B = np.exp(truth.watch_mu_B + WATCH_SIGMA * rng.standard_normal(rows))
    return Outcomes(
        click_B=click_B,
        conversion_B=click_B & conversion_B,
        conversion_delay_ms_B=delay_ms_B.astype(np.int64) + 1,  # never at the click itself
        watch_time_s_B=np.minimum(free_s_B, duration_s_B).astype(np.float32),
        censored_B=free_s_B >= duration_s_B,
    )


def watch_predictions(truth: Probabilities, duration_s_B: Floats) -> dict[str, Floats]:
    mean_B, variance_B = watch_log1p_moments(truth.watch_mu_B, WATCH_SIGMA, duration_s_B)
    return {
        "watch_log_mean": truth.watch_mu_B,
        "expected_watch_s": expected_watch_s(truth.watch_mu_B, WATCH_SIGMA, duration_s_B),
        "watch_log1p_mean": mean_B,
        "watch_log1p_var": variance_B,
    }
