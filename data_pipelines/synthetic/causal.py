"""What was known before each row: the user's history and counts, and the item's last 24 hours.

Shapes: B rows and R requests of a day, N users, H = HISTORY places. "Before" is strict: rows of
one request share their time, so none of them sees a click of another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_pipelines.synthetic.exposures import DAY_MS, Exposures
from data_pipelines.synthetic.random_streams import Ints

HISTORY = 10
_NONE = -1
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Known:
    """What the log could know at each row's time; `history_BH` holds item indices, then -1."""

    history_BH: Ints  # newest first
    user_impressions_B: Ints  # since the log began
    user_clicks_B: Ints
    item_impressions_24h_B: Ints
    item_clicks_24h_B: Ints


class Memory:
    """Carries users' histories and the last day's rows from day to day."""

    def __init__(self) -> None:
        self._history_NH = np.empty((0, HISTORY), np.int64)
        self._impressions_N = np.empty(0, np.int64)
        self._clicks_N = np.empty(0, np.int64)
        self._yesterday = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))

    def live_through(self, shown: Exposures, click_B: _Bools, users: int) -> Known:
        """What was known at each of a day's rows; the day is then part of the memory.

        Days must come in order, each once; `users` is how many there are by now.
        """
        self._grow(users)
        impressions_B, clicks_B, flat_clicks, first_click_N = _user_so_far(shown, click_B, users)
        item_impressions_B, item_clicks_B = self._last_24h(shown, click_B)
        first = np.flatnonzero(shown.pos_B == 0)  # a request's rows know the same: work once
        history_RH = self._histories(
            shown.user_B[first], clicks_B[first], flat_clicks, first_click_N
        )
        known = Known(
            history_BH=history_RH[shown.request_B],
            user_impressions_B=self._impressions_N[shown.user_B] + impressions_B,
            user_clicks_B=self._clicks_N[shown.user_B] + clicks_B,
            item_impressions_24h_B=item_impressions_B,
            item_clicks_24h_B=item_clicks_B,
        )
        today_N = np.bincount(shown.user_B[click_B], minlength=users)
        self._history_NH = self._histories(np.arange(users), today_N, flat_clicks, first_click_N)
        self._impressions_N = self._impressions_N + np.bincount(shown.user_B, minlength=users)
        self._clicks_N = self._clicks_N + today_N
        self._yesterday = (shown.item_B, shown.time_ms_B, click_B)
        return known

    def _grow(self, users: int) -> None:
        new = users - len(self._clicks_N)
        empty_NH = np.full((new, HISTORY), _NONE)
        self._history_NH = np.concatenate([self._history_NH, empty_NH])
        self._impressions_N = np.concatenate([self._impressions_N, np.zeros(new, np.int64)])
        self._clicks_N = np.concatenate([self._clicks_N, np.zeros(new, np.int64)])

    def _histories(
        self, user_B: Ints, clicks_B: Ints, flat_clicks: Ints, first_click_N: Ints
    ) -> Ints:
        """Today's `clicks_B` first clicks of each user, newest first, then the older ones."""
        place_BH = np.arange(HISTORY) - clicks_B[:, None]  # negative: a click of today
        # np.where takes one branch but both are computed: keep the other one's indices legal
        new_BH = flat_clicks[np.maximum((first_click_N[user_B] - 1)[:, None] - place_BH, 0)]
        old_BH = self._history_NH[user_B[:, None], np.maximum(place_BH, 0)]
        return np.where(place_BH < 0, new_BH, old_BH)

    def _last_24h(self, shown: Exposures, click_B: _Bools) -> tuple[Ints, Ints]:
        item, time_ms, click = (
            np.concatenate(pair)
            for pair in zip(
                self._yesterday, (shown.item_B, shown.time_ms_B + DAY_MS, click_B), strict=True
            )
        )
        now_B = shown.item_B * (2 * DAY_MS) + shown.time_ms_B + DAY_MS
        order = np.argsort(now_B)  # searching in order stays in the cache: 3x as fast
        counts_2B = np.empty((2, len(now_B)), np.int64)
        for count_B, kept in zip(counts_2B, (slice(None), click), strict=True):
            events = np.sort(item[kept] * (2 * DAY_MS) + time_ms[kept])
            until = np.searchsorted(events, now_B[order])
            count_B[order] = until - np.searchsorted(events, now_B[order] - DAY_MS)
        return counts_2B[0], counts_2B[1]


def _user_so_far(shown: Exposures, click_B: _Bools, users: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Today's impressions and clicks of each row's user before its request; and today's clicks.

    The clicked items come as one flat array, by user and time, with each user's first position.
    """
    order = np.argsort(shown.user_B, kind="stable")  # stable: by user, then by time
    user, click = shown.user_B[order], click_B[order]
    index = np.arange(len(order))
    starts = np.concatenate([[True], user[1:] != user[:-1]])
    user_start = np.maximum.accumulate(np.where(starts, index, 0))
    request_start = index - shown.pos_B[order]
    clicks_before = np.concatenate([[0], np.cumsum(click)])
    impressions_B, clicks_B = np.empty_like(index), np.empty_like(index)
    impressions_B[order] = request_start - user_start
    clicks_B[order] = clicks_before[request_start] - clicks_before[user_start]
    clicks_N = np.bincount(user[click], minlength=users)
    flat_clicks = np.concatenate([shown.item_B[order][click], [_NONE]])  # never empty
    return impressions_B, clicks_B, flat_clicks, np.cumsum(clicks_N) - clicks_N
