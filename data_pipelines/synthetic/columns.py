"""The columns of the log and of its truth, as Arrow tables.

| column | type | meaning |
|---|---|---|
| row_id | int64 | rises by 1 over the whole log, from 0 |
| request_id | int64 | rows with the same id are one slate (5 rows of one user at one time) |
| event_time_ms | int64 | Unix time of the request, UTC; never falls; unique per request |
| user_id, item_id | int64 | sparse, in [0, 2**63) |
| age_group | int8 | of the user, 0-11 |
| country, device | string | of the request: mostly, not always, the user's usual ones |
| hour, weekday | int8 | UTC; Monday is 0 |
| pos | int8 | place in the slate, 0-4; lower is clicked more |
| category | int8 | of the item, 0-23 |
| duration_s | float32 | of the item |
| item_age_h | float32 | since the item's birth (midnight of its first day) |
| history | list<int64> | items the user clicked before this request, newest first, 10 at most |
| user_impressions, user_clicks | int32 | of the user, before this request, since the log began |
| item_impressions_24h, item_clicks_24h | int32 | in the 24 hours before this request |
| click | int8 | 0 or 1 |
| conversion | int8 | in the end; null where not clicked |
| conversion_time_ms | int64 | when it came, perhaps after the log's last day; null if never |
| watch_time_s | float32 | min(T, duration_s); null where not clicked |
| watch_censored | int8 | 1: the item ended first (watch_time_s == duration_s); null likewise |

The truth (all float64, for every row, clicked or not; the last five are given a click):
row_id, p_click, p_conversion_given_click, expected_watch_s (E[min(T, duration)]), watch_log_mean
(mu of log T; its sigma is in meta.json), watch_log1p_mean and watch_log1p_var (of
log(1 + watch_time_s)).
"""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

from data_pipelines.synthetic.causal import Known
from data_pipelines.synthetic.exposures import DAY_MS, HOUR_MS, Exposures
from data_pipelines.synthetic.outcomes import Outcomes, watch_predictions
from data_pipelines.synthetic.population import COUNTRIES, DEVICES, Population
from data_pipelines.synthetic.preferences import Probabilities
from data_pipelines.synthetic.random_streams import Ints

FIRST_DATE = datetime.date(2024, 1, 1)
_FIRST_MS = (FIRST_DATE - datetime.date(1970, 1, 1)).days * DAY_MS


def day_date(day: int) -> datetime.date:
    return FIRST_DATE + datetime.timedelta(days=day)


def log_table(
    population: Population, shown: Exposures, known: Known, outcomes: Outcomes
) -> pa.Table:
    """One day of the log; `population` stands at that day."""
    users, items, day = population.users, population.items, population.day
    rows = len(shown.user_B)
    requests = int(shown.request_B[-1]) + 1
    time_ms_B = _FIRST_MS + day * DAY_MS + shown.time_ms_B
    birth_ms_B = _FIRST_MS + items.birth_day_N[shown.item_B] * DAY_MS
    unclicked_B, unconverted_B = ~outcomes.click_B, ~outcomes.conversion_B
    return pa.table(
        {
            "row_id": day * rows + np.arange(rows),
            "request_id": day * requests + shown.request_B,
            "event_time_ms": time_ms_B,
            "user_id": users.id_N[shown.user_B],
            "item_id": items.id_N[shown.item_B],
            "age_group": users.age_group_N[shown.user_B].astype(np.int8),
            "country": _names(COUNTRIES, shown.country_B),
            "device": _names(DEVICES, shown.device_B),
            "hour": shown.hour_B.astype(np.int8),
            "weekday": np.full(rows, day_date(day).weekday(), np.int8),
            "pos": shown.pos_B.astype(np.int8),
            "category": items.category_N[shown.item_B].astype(np.int8),
            "duration_s": items.duration_s_N[shown.item_B].astype(np.float32),
            "item_age_h": ((time_ms_B - birth_ms_B) / HOUR_MS).astype(np.float32),
            "history": _lists(known.history_BH, items.id_N),
            "user_impressions": known.user_impressions_B.astype(np.int32),
            "user_clicks": known.user_clicks_B.astype(np.int32),
            "item_impressions_24h": known.item_impressions_24h_B.astype(np.int32),
            "item_clicks_24h": known.item_clicks_24h_B.astype(np.int32),
            "click": outcomes.click_B.astype(np.int8),
            "conversion": pa.array(outcomes.conversion_B.astype(np.int8), mask=unclicked_B),
            "conversion_time_ms": pa.array(
                time_ms_B + outcomes.conversion_delay_ms_B, mask=unconverted_B
            ),
            "watch_time_s": pa.array(outcomes.watch_time_s_B, mask=unclicked_B),
            "watch_censored": pa.array(outcomes.censored_B.astype(np.int8), mask=unclicked_B),
        }
    )


def truth_table(population: Population, shown: Exposures, truth: Probabilities) -> pa.Table:
    """The Bayes-optimal predictions of the same rows."""
    rows = len(shown.user_B)
    return pa.table(
        {
            "row_id": population.day * rows + np.arange(rows),
            "p_click": truth.click_B,
            "p_conversion_given_click": truth.conversion_B,
            **watch_predictions(truth, population.items.duration_s_N[shown.item_B]),
        }
    )


def _names(names: tuple[str, ...], index_B: Ints) -> pa.Array:
    return pa.array(names).take(pa.array(index_B))


def _lists(index_BH: Ints, id_N: Ints) -> pa.Array:
    """Lists of ids from rows of indices that end with the first -1."""
    given_BH = index_BH >= 0
    offsets = np.concatenate([[0], np.cumsum(given_BH.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(id_N[index_BH[given_BH]]))
