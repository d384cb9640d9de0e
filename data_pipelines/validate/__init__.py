"""Reads a split once, whole, and says everything that is wrong with it, before a run does."""
