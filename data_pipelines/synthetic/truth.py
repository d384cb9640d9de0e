"""Expected metrics of scores when labels are Bernoulli draws of known probabilities.

With scores == probabilities these are the Bayes values: no model does better in expectation.
Shapes: B rows. All take finite arrays of one length and raise ValueError otherwise.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr, xlog1py, xlogy

from data_pipelines.synthetic.random_streams import Floats


def expected_auc(score_B: np.ndarray, probability_B: np.ndarray) -> float:
    """AUC of `score_B` in expectation over labels ~ Bernoulli(`probability_B`), O(B log B).

    The ratio of expectations, exact: over ordered pairs of two different rows,
    sum p_i (1 - p_j) ([s_i > s_j] + [s_i == s_j] / 2) / sum p_i (1 - p_j). The AUC of one draw of
    labels scatters around it by O(1 / sqrt(B)); its mean differs by O(1 / B) only. NaN when no
    pair can have both labels.
    """
    score_B, p_B = _checked(score_B, probability_B)
    order = np.argsort(score_B, kind="stable")
    p_B, starts = p_B[order], np.flatnonzero(np.diff(score_B[order], prepend=-np.inf))
    positive_G = np.add.reduceat(p_B, starts)  # per group of tied scores
    negative_G = np.add.reduceat(1 - p_B, starts)
    self_G = np.add.reduceat(p_B * (1 - p_B), starts)  # a row does not compete with itself
    below_G = np.cumsum(negative_G) - negative_G
    wins = np.sum(positive_G * below_G) + np.sum(positive_G * negative_G - self_G) / 2
    pairs = p_B.sum() * (1 - p_B).sum() - self_G.sum()
    return float(wins / pairs) if pairs > 0 else float("nan")


def expected_log_loss(score_B: np.ndarray, probability_B: np.ndarray) -> float:
    """Mean log loss (nats) of predicted probabilities `score_B`; infinite where sure but wrong."""
    score_B, p_B = _checked(score_B, probability_B)
    if ((score_B < 0) | (score_B > 1)).any():
        raise ValueError("score: log loss needs probabilities in [0, 1]")
    with np.errstate(divide="ignore"):
        return float(-np.mean(xlogy(p_B, score_B) + xlog1py(1 - p_B, -score_B)))


def expected_ne(score_B: np.ndarray, probability_B: np.ndarray) -> float:
    """Normalized entropy: log loss over that of always predicting the mean probability."""
    mean = float(np.mean(_checked(score_B, probability_B)[1]))
    return expected_log_loss(score_B, probability_B) / float(entr(mean) + entr(1 - mean))


def _checked(score_B: np.ndarray, probability_B: np.ndarray) -> tuple[Floats, Floats]:
    score_B = np.asarray(score_B, np.float64)
    p_B = np.asarray(probability_B, np.float64)
    if score_B.ndim != 1 or score_B.shape != p_B.shape or not len(p_B):
        raise ValueError(f"expected two equal 1-D arrays, found {score_B.shape} and {p_B.shape}")
    if not np.isfinite(score_B).all():
        raise ValueError("score: found NaN or infinity")
    if not ((p_B >= 0) & (p_B <= 1)).all():
        raise ValueError("probability: found a value outside [0, 1]")
    return score_B, p_B
