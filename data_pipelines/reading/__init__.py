"""Reads batches: rows are decoded and verified in background threads."""
