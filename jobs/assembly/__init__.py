"""Builds data and model from a config, for every job."""
