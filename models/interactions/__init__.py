"""Interactions: products of features, between the joined input and the trunk."""
