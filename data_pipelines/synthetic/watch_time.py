"""Watch time: log-normal, cut off by the item's duration; and its exact moments.

T = exp(mu + sigma * Z) seconds is what the user would watch of an endless item; the log holds
W = min(T, duration). All functions take arrays of one shape (B rows) and return float64.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from data_pipelines.synthetic.random_streams import Floats

_NODES_K, _WEIGHTS_K = np.polynomial.legendre.leggauss(32)
_TAIL_SIGMAS = 7.5  # beyond lies less than 1e-13 of the whole


def expected_watch_s(mu_B: Floats, sigma: float, duration_s_B: Floats) -> Floats:
    """E[min(T, duration)] in seconds."""
    limit_B = (np.log(duration_s_B) - mu_B) / sigma
    below_B = np.exp(mu_B + sigma**2 / 2) * ndtr(limit_B - sigma)
    return below_B + duration_s_B * ndtr(-limit_B)


def watch_log1p_moments(mu_B: Floats, sigma: float, duration_s_B: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of log(1 + min(T, duration)), to about 1e-9.

    The mean is the best prediction under squared error of log1p seconds; the mean of the variances
    is the smallest error that any model can reach.

    By Gauss-Legendre quadrature over x = log T: with g(x) = log(1 + e^x) and L = log duration,
    E[g(min(x, L))^k] = integral up to L of (g^k)'(x) P(log T > x) dx, as g vanishes on the left.
    """
    end_B = np.minimum(np.log(duration_s_B), mu_B + _TAIL_SIGMAS * sigma)
    # left of this, P(log T > x) is 1 to double precision and the integral is g itself
    start_B = np.minimum(mu_B - _TAIL_SIGMAS * sigma, end_B)
    half_B = (end_B - start_B) / 2
    g_start_B = np.logaddexp(0.0, start_B)
    mean_B, square_B = g_start_B.copy(), g_start_B**2
    for node, weight in zip(_NODES_K, _WEIGHTS_K, strict=True):  # K arrays of B, not one of K x B
        x_B = start_B + half_B * (1 + node)
        grown_B = np.exp(x_B)
        slope_B = weight * half_B * ndtr((mu_B - x_B) / sigma) * (grown_B / (1 + grown_B))
        mean_B += slope_B
        square_B += 2 * np.log1p(grown_B) * slope_B
    return mean_B, square_B - mean_B**2
