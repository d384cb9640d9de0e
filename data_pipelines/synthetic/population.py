"""Users and items: latent factors, biases and what the log shows of them.

Shapes: N entities, F factors, 3 outcomes in the order click, conversion, watch time.

Everything is standard normal per entity, so that the coefficients in `preferences.py` are standard
deviations. Much of an entity's latents comes from a group that the log shows (age group,
category): a model can learn from it what a cold entity is like.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from data_pipelines.synthetic.random_streams import Floats, Ints, sparse_ids, stream
from marigold_rec.config.data import SyntheticConfig

FACTORS = 3
AGE_GROUPS = 12
CATEGORIES = 24
COUNTRIES = ("BR", "DE", "ES", "FR", "GB", "IN", "JP", "MX", "PT", "US")
DEVICES = ("desktop", "phone", "tablet", "tv")

_COUNTRY_SHARES = 1.0 / np.arange(2, 2 + len(COUNTRIES))
_DEVICE_SHARES = np.array([0.25, 0.55, 0.12, 0.08])
_GROUP_SHARE = 0.8  # of the variance of factors: it comes from the age group or category
_BIAS_GROUP_SHARE = 0.5  # likewise of biases
_ALIGNED = 0.5  # correlation of the factors of click and conversion without conflict
_WATCH_ALIGNED = 0.5  # of click and watch time, always
_BACK_CATALOGUE_DAYS = 30  # the first day's items were born in the days before
_ACTIVITY_SIGMA = 1.0  # few users make most requests ...
_POPULARITY_SIGMA = 1.0  # ... and few items take most exposures
_FADE_PER_DAY = 0.03
_LAUNCH_BOOST = 1.0
_LAUNCH_DAYS = 2.0
DRIFT_SIGMA = 0.6
_DRIFT_KEPT = 0.8  # share of an item's drift that lasts to the next day


@dataclass
class Users:
    id_N: Ints
    age_group_N: Ints
    country_N: Ints
    device_N: Ints  # the usual one
    activity_N: Floats
    bias_N3: Floats
    click_factor_NF: Floats
    conversion_factor_NF: Floats


@dataclass
class Items:
    id_N: Ints
    category_N: Ints
    duration_s_N: Floats  # exactly representable as float32, as the log stores it
    birth_day_N: Ints  # negative: before the first day
    log_popularity_N: Floats
    drift_N: Floats  # of the day that the population stands at
    bias_N3: Floats
    factor_NF: Floats


_Kind = TypeVar("_Kind", Users, Items)


def factor_correlation(conflict: float) -> float:
    """Correlation of the factor parts of the click and the conversion logit.

    0.5 at conflict 0 (related tasks), 0 at 1/3 (unrelated), -1 at 1 (the same factors with
    opposed signs: what makes a user click keeps him from converting).
    """
    return _ALIGNED - (1 + _ALIGNED) * conflict


class Population:
    """All users and items that exist on `day`; starts at day 0."""

    def __init__(self, config: SyntheticConfig) -> None:
        self._config = config
        rng = stream(config.seed, "groups")
        self._age_centres = _orthogonal(rng, AGE_GROUPS, 3 + 2 * FACTORS)
        self._category_centres = _orthogonal(rng, CATEGORIES, 3 + FACTORS)
        self.day = 0
        self.users = self._new_users(config.users, first=0)
        self.items = self._new_items(config.items, first=0)
        rng = stream(config.seed, "back catalogue")
        self.items.birth_day_N = -rng.integers(1, _BACK_CATALOGUE_DAYS + 1, config.items)

    def advance(self) -> None:
        """To the next day: popularity drifts, and new users and items come."""
        self.day += 1
        items, rng = self.items, stream(self._config.seed, "drift", self.day)
        fresh = DRIFT_SIGMA * np.sqrt(1 - _DRIFT_KEPT**2) * rng.standard_normal(len(items.id_N))
        items.drift_N = _DRIFT_KEPT * items.drift_N + fresh
        new_users = round(self._config.cold_share * self._config.users)
        new_items = round(self._config.cold_share * self._config.items)
        self.users = _joined(self.users, self._new_users(new_users, len(self.users.id_N)))
        self.items = _joined(items, self._new_items(new_items, len(items.id_N)))

    def exposure_weights(self) -> Floats:
        """How often each item is shown today, relative to the others."""
        age_days = self.day - self.items.birth_day_N
        launch = _LAUNCH_BOOST * np.exp(-age_days / _LAUNCH_DAYS)
        fade = _FADE_PER_DAY * age_days
        return np.exp(self.items.log_popularity_N + self.items.drift_N + launch - fade)

    def _new_users(self, count: int, first: int) -> Users:
        seed, rng = self._config.seed, stream(self._config.seed, "users", self.day)
        rho = factor_correlation(self._config.conflict)
        age_group = rng.integers(AGE_GROUPS, size=count)
        biases, factors = _latents(rng, self._age_centres, age_group)
        click_factor, own_factor = np.split(factors, 2, axis=1)
        return Users(
            id_N=sparse_ids(seed, "user ids", first, count),
            age_group_N=age_group,
            country_N=_drawn(rng, _COUNTRY_SHARES, count),
            device_N=_drawn(rng, _DEVICE_SHARES, count),
            activity_N=np.exp(_ACTIVITY_SIGMA * rng.standard_normal(count)),
            bias_N3=_correlated(biases, rho),
            click_factor_NF=click_factor,
            conversion_factor_NF=_mixed(click_factor, own_factor, rho),
        )

    def _new_items(self, count: int, first: int) -> Items:
        seed, rng = self._config.seed, stream(self._config.seed, "items", self.day)
        rho = factor_correlation(self._config.conflict)
        category = rng.integers(CATEGORIES, size=count)
        biases, factors = _latents(rng, self._category_centres, category)
        duration_s = np.clip(np.exp(np.log(180) + 0.7 * rng.standard_normal(count)), 15, 3600)
        return Items(
            id_N=sparse_ids(seed, "item ids", first, count),
            category_N=category,
            duration_s_N=duration_s.astype(np.float32).astype(np.float64),
            birth_day_N=np.full(count, self.day),
            log_popularity_N=_POPULARITY_SIGMA * rng.standard_normal(count),
            drift_N=DRIFT_SIGMA * rng.standard_normal(count),
            bias_N3=_correlated(biases, rho),
            factor_NF=factors,
        )


def _orthogonal(rng: np.random.Generator, groups: int, columns: int) -> Floats:
    """Columns of mean 0, variance 1 and correlation 0 over the groups.

    Plain random centres of so few groups would make the signal's strength, and the correlation of
    the tasks, hang on the seed.
    """
    with_ones = np.concatenate(
        [np.ones((groups, 1)), rng.standard_normal((groups, columns))], axis=1
    )
    return np.sqrt(groups) * np.linalg.qr(with_ones).Q[:, 1:]


def _latents(rng: np.random.Generator, centres: Floats, group_N: Ints) -> tuple[Floats, Floats]:
    """Three biases and the factors of each entity, all standard normal over the population."""
    share = np.full(centres.shape[1], _GROUP_SHARE)
    share[:3] = _BIAS_GROUP_SHARE
    own = rng.standard_normal((len(group_N), len(share)))
    latents = np.sqrt(share) * centres[group_N] + np.sqrt(1 - share) * own
    return latents[:, :3], latents[:, 3:]


def _mixed(a: Floats, b: Floats, correlation: float) -> Floats:
    return correlation * a + np.sqrt(max(0.0, 1 - correlation**2)) * b


def _correlated(biases_N3: Floats, rho: float) -> Floats:
    click, conversion, watch = biases_N3.T
    return np.stack(
        [click, _mixed(click, conversion, rho), _mixed(click, watch, _WATCH_ALIGNED)], axis=1
    )


def _drawn(rng: np.random.Generator, shares: Floats, count: int) -> Ints:
    cumulated = np.cumsum(shares / shares.sum())
    return np.minimum(np.searchsorted(cumulated, rng.random(count)), len(shares) - 1)


def _joined(old: _Kind, new: _Kind) -> _Kind:
    return type(old)(
        **{
            f.name: np.concatenate([getattr(old, f.name), getattr(new, f.name)])
            for f in fields(old)
        }
    )
