"""Computes moments, samples and distinct counts of values that come in pieces."""
