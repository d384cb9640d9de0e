"""Histories and counts against a plain loop over the rows in time."""

from __future__ import annotations

from collections import defaultdict

from tests.data_pipelines.synthetic.logs import Log

DAY_MS = 86_400_000


def test_features_know_the_past_and_only_the_past(tiny_log: Log) -> None:
    clicks_of_user: dict[int, list[tuple[int, int]]] = defaultdict(list)  # (time, item)
    shown_to_user: dict[int, list[int]] = defaultdict(list)
    shown_of_item: dict[int, list[tuple[int, int]]] = defaultdict(list)  # (time, click)
    for row in tiny_log.rows.to_dict("records"):
        now, user, item = row["event_time_ms"], row["user_id"], row["item_id"]
        clicked = [i for time, i in clicks_of_user[user] if time < now]
        recent = [click for time, click in shown_of_item[item] if now - DAY_MS <= time < now]
        assert list(row["history"]) == clicked[::-1][:10]
        assert row["user_clicks"] == len(clicked)
        assert row["user_impressions"] == sum(time < now for time in shown_to_user[user])
        assert row["item_impressions_24h"] == len(recent)
        assert row["item_clicks_24h"] == sum(recent)
        shown_to_user[user].append(now)
        shown_of_item[item].append((now, row["click"]))
        if row["click"]:
            clicks_of_user[user].append((now, item))


def test_histories_grow_full(tiny_log: Log) -> None:
    lengths = tiny_log.rows.history.map(len)
    assert lengths.min() == 0
    assert lengths.max() == 10
    assert tiny_log.rows.user_clicks.max() > 10


def test_item_age_counts_from_birth(log: Log) -> None:
    rows = log.rows
    birth_ms = (rows.event_time_ms - rows.item_age_h.astype(float) * 3_600_000).round(-5)
    spread = birth_ms.groupby(rows.item_id).agg(lambda births: births.max() - births.min())
    assert spread.max() <= 200_000  # float32 hours: about 0.1 s per thousand hours, twice rounded
